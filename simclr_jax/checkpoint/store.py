"""Checkpoints of training stages: Orbax stores arrays, sealed_folder.py protects them.

    DIR/400/arrays/params/  one item as Orbax writes it; can be restored alone
    DIR/400/digests.json    digests of every file and every leaf, and `meta`

Orbax does not check array data against a checksum and does not fall back to an earlier
step; `restore` does both. A checkpoint contains no PRNG keys and no pickles.

Of several processes only process 0 touches the files. What it reads it sends to the
others, who need no shared folder.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simclr_jax import processes
from simclr_jax.checkpoint import orbax_arrays, sealed_folder, trees
from simclr_jax.errors import RequestError

_ARRAYS = "arrays"


@processes.first_only
def save(
    directory: str | os.PathLike,
    step: int,
    items: dict[str, Any],
    meta: dict[str, Any],
    *,
    keep: int = 2,
) -> None:
    """Writes one step, then deletes all but the `keep` newest.

    A kill at any moment leaves the whole step or none of it. An existing step is
    replaced.

    Args:
      directory: the folder of the steps; created if missing.
      step: number of the step, 0 or more.
      items: name -> pytree of arrays or numbers, of any shape and any dtype except
        PRNG keys.
      meta: data that JSON can hold; `read_meta` returns it without reading the arrays.
      keep: how many steps to keep, at least 1. The step just saved is always kept.

    Raises:
      OSError: the step could not be written (disk full, no permission, ...); one line
        names the folder and the cause. The older steps are untouched.
      TypeError, ValueError: `items`, `meta` or `keep` can't be saved; nothing is
        written.
    """
    directory, step = Path(os.path.abspath(directory)), int(step)
    if keep < 1 or step < 0:
        raise ValueError(f"keep={keep} must be at least 1 and step={step} at least 0")
    if wrong := [item for item in items if not re.fullmatch(r"\w+", item)]:
        raise ValueError(f"item names must be letters, digits and _, not {wrong}")
    arrays = {item: trees.fetch(item, tree) for item, tree in items.items()}
    content = {
        "meta": meta,
        "orbax": importlib.metadata.version("orbax-checkpoint"),
        "leaves": {item: trees.describe(named) for item, named in arrays.items()},
    }
    sealed_folder.seal(content)  # fails here, before writing, if JSON can't hold meta
    try:
        folder = sealed_folder.begin(directory, step)
        orbax_arrays.write(folder / _ARRAYS, arrays)
        sealed_folder.publish(folder, content)
    except Exception as error:
        shutil.rmtree(directory / f"{step}.tmp", ignore_errors=True)
        size = sum(a.nbytes for named in arrays.values() for a in named.values())
        raise OSError(
            f"cannot save checkpoint step {step} ({size / 1e6:.1f} MB) in "
            f"{directory}: {orbax_arrays.cause(error)}"
        ) from error
    others = [other for other in steps(directory) if other != step]
    for old in others[: max(0, len(others) - (keep - 1))]:
        sealed_folder.delete(directory / str(old))


@processes.first_only
def tidy(directory: str | os.PathLike) -> None:
    """Deletes what a killed save or deletion left in a folder of steps, if possible.

    `save` does so too. But after the last save of a training none follows.

    Args:
      directory: the folder given to `save`; it may be missing. Nobody else may be
        saving into it.
    """
    with contextlib.suppress(OSError):
        for folder in sealed_folder.leftovers(Path(directory)):
            shutil.rmtree(folder, ignore_errors=True)


@processes.agreed
def steps(directory: str | os.PathLike) -> list[int]:
    """The complete steps of a folder.

    A step counts if its record is intact and all its files have their full length.
    `restore` checks their content, which it reads anyway.

    Args:
      directory: the folder given to `save`; it may be missing.

    Returns:
      The steps, ascending.

    Raises:
      RequestError: the folder can't be read.
    """
    return list(sealed_folder.records(Path(directory)))


@processes.agreed
def read_meta(
    directory: str | os.PathLike, step: int | None = None
) -> dict[str, Any] | None:
    """The `meta` of a complete step, without reading its arrays.

    Args:
      directory: the folder given to `save`.
      step: which step; None is the newest complete one.

    Returns:
      What `save` was given (tuples as lists), or None if there is no such step.

    Raises:
      RequestError: the folder can't be read.
    """
    records = sealed_folder.records(Path(directory))
    number = max(records, default=-1) if step is None else step
    return records.get(number, {}).get("meta")


def restore(
    directory: str | os.PathLike,
    like: dict[str, Any],
    *,
    step: int | None = None,
    rename: bool = True,
    only: Callable[[str], bool] | None = None,
) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Reads the newest step whose files and leaves all match their digests.

    Reports each newer, damaged step on stderr and renames it to `STEP.damaged`, but
    only after finding an undamaged one. Without one it renames nothing, so that the
    next run fails as this one does and does not start again from nothing.

    Another process may save into the folder and delete old steps meanwhile: a step that
    goes while it is read gives way to the newest one that is there then.

    Args:
      directory: the folder given to `save`.
      like: item name -> the pytree to restore it into, whose leaves are arrays or
        `jax.ShapeDtypeStruct`s. None restores the item as stored, as nested dicts of
        NumPy arrays. Items that `like` lacks are checked but not restored.
      step: the step to try first, instead of the newest.
      rename: whether damaged steps are renamed; not in a folder of another run.
      only: of items that are restored as stored, which leaves: it gets the item's and
        the leaf's name, as "params/encoder/kernel". Other leaves are not unpacked, but
        their files are checked. None: all leaves.

    Returns:
      (step, items, meta), or None if the folder holds no step at all. Leaves are
      new jax arrays with the sharding of `like`, or uncommitted on the default
      device where it has none. (64-bit numbers that jax can't hold stay NumPy arrays.)

    Raises:
      RequestError: no undamaged step is left, there is no step `step`, or the step
        differs from `like` in structure, shape or dtype.
    """
    read = processes.agree(lambda: _restore(Path(directory), like, step, rename, only))
    if read is None:
        return None
    number, loaded, meta = read
    return number, {item: trees.place(loaded[item], like[item]) for item in like}, meta


def _restore(
    directory: Path,
    like: dict[str, Any],
    step: int | None,
    rename: bool,
    only: Callable[[str], bool] | None,
) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """`restore`, with items as name -> NumPy array."""
    directory = Path(os.path.abspath(directory))
    while True:
        numbers = sealed_folder.numbers(directory)
        if numbers and step is not None and step not in numbers:
            present = ", ".join(map(str, numbers))
            raise RequestError(
                f"no checkpoint step {step} in {directory}, only {present}"
            )
        if step is not None:
            numbers = [number for number in numbers if number <= step]
        with contextlib.suppress(_Gone):
            return _newest(directory, numbers, like, rename, only)


class _Gone(Exception):
    """A step was deleted or replaced while it was read: its run is still training."""


def _newest(
    directory: Path,
    numbers: list[int],
    like: dict[str, Any],
    rename: bool,
    only: Callable[[str], bool] | None,
) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """The newest undamaged one of some steps, ascending, as `_restore` returns it."""
    damaged: dict[int, str] = {}
    for number in reversed(numbers):
        folder = directory / str(number)
        listed = _identity(folder)
        try:
            loaded, meta = _load(folder, like, only)
        except Exception as error:
            if listed is None or _identity(folder) != listed:
                raise _Gone from error
            if not isinstance(error, sealed_folder.Damaged):
                raise
            damaged[number] = f"checkpoint step {number} is damaged: {error}"
            continue
        for bad, message in damaged.items():
            print(f"{message}; continuing from step {number}", file=sys.stderr)
            if rename:
                with contextlib.suppress(OSError):  # the folder may be read-only
                    sealed_folder.set_aside(directory / str(bad))
        return number, loaded, meta
    if damaged:
        reasons = "; ".join(damaged.values())
        raise RequestError(f"{reasons}; no other step is left in {directory}")
    return None


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Differs between a folder and one that took its place; None if there is none."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _load(
    folder: Path, like: dict[str, Any], only: Callable[[str], bool] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Checks all of one step; returns (item -> name -> NumPy array, meta)."""
    try:
        record = sealed_folder.read(folder)
        with sealed_folder.reading_record():
            # Before the files, so that a wrong request fails fast and touches nothing.
            where = f"checkpoint step {folder.name} in {folder.parent}"
            trees.check(record, like, where)
            sealed_folder.verify(folder, record)
            meta, orbax = record["meta"], record["orbax"]
            wanted = {
                item: {
                    name: described
                    for name, described in record["leaves"][item].items()
                    if only is None or tree is not None or only(f"{item}/{name}")
                }
                for item, tree in like.items()
            }
    except PermissionError as error:
        raise RequestError(f"cannot read checkpoint {folder}: {error}") from error
    try:
        items = orbax_arrays.read(folder / _ARRAYS, wanted)
    except Exception as error:
        # The files are as saved, so the cause is a version, not damage.
        raise RequestError(
            f"checkpoint {folder} is undamaged, but Orbax can't read it (written by "
            f"Orbax {orbax}): {orbax_arrays.cause(error)}"
        ) from error
    for item, named in items.items():
        described = trees.describe(named)
        for name, expected in wanted[item].items():
            if described[name] != expected:
                raise sealed_folder.Damaged(f"{item}/{name} is not what was saved")
    return items, meta
