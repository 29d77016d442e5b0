"""Features of images in one file: `h [N, D]`, `file`, `label`, as .npz or Parquet."""

import contextlib
import importlib.util
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simclr_jax.signals import check_stop

FORMATS = ("npz", "parquet")
_PIECE = 8  # batches between two looks at the clock and at signals
_SILENCE = 2.0  # seconds


def missing(form: str) -> str:
    """The package that a format needs and that is not installed; "" if none."""
    there = form != "parquet" or importlib.util.find_spec("pyarrow")
    return "" if there else "pyarrow"


def in_pieces(
    compute: Callable[[Any], Any],
    images: Any,
    batch_size: int,
    say: Callable[[int, int, float], None],
) -> list[Any]:
    """`compute` of some batches of images at a time.

    Args:
      compute: of an array or list of images.
      images: N of them.
      batch_size: of the network; only the last piece has a smaller batch.
      say: is called with how many are done, N, and images per second, every other
        second and at the end.

    Returns:
      What `compute` returned for each piece.

    Raises:
      StoppedError: a signal came.
    """
    total, size = len(images), _PIECE * batch_size
    found, start = [], 0
    began = spoken = time.monotonic()
    while start < total:
        # What is left of the images joins the last whole piece: a piece with less than
        # a batch would compile another program.
        stop = total if total - start < size + batch_size else start + size
        check_stop()
        found.append(compute(images[start:stop]))
        start, now = stop, time.monotonic()
        if now - spoken > _SILENCE or (start == total and spoken > began):
            say(start, total, start / (now - began))
            spoken = now
    return found


def write(path: str | os.PathLike, columns: dict[str, Any], about: Any) -> None:
    """Writes the columns; a reader sees the old file or the new one.

    Args:
      path: ends in .parquet for Parquet, else the file is an .npz.
      columns: each [N] or [N, D].
      about: what JSON can hold; an .npz has it as the array `about`, Parquet as the
        entry "about" of its metadata.

    Raises:
      OSError: it can't be written; one line names the file and the cause.
    """
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.tmp")
    form = _parquet if format_of(path) == "parquet" else _npz
    try:
        with temporary.open("wb") as file:
            form(file, columns, json.dumps(about))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or " ".join(str(error).split())
        raise OSError(f"cannot write {path}: {reason}") from error


def read_about(path: str | os.PathLike) -> Any:
    """What `write` was told of the columns.

    Raises:
      OSError, ValueError, KeyError: there is no such file, or `write` did not write it.
    """
    if format_of(path) == "parquet":
        from pyarrow import parquet

        return json.loads(parquet.read_schema(path).metadata[b"about"])
    with np.load(path) as archive:
        return json.loads(str(archive["about"]))


def format_of(path: str | os.PathLike) -> str:
    """The format of a file, by its name."""
    return "parquet" if Path(path).suffix.lower() == ".parquet" else "npz"


def text(names: Iterable[str]) -> list[str]:
    """Names of files as UTF-8 can have them; other bytes become question marks."""
    return [os.fsencode(name).decode("utf-8", "replace") for name in names]


def _npz(file: Any, columns: dict[str, Any], about: str) -> None:
    # np.savez takes no array called "file".
    with zipfile.ZipFile(file, "w") as archive:
        for name, column in {**columns, "about": about}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                array = np.asanyarray(column)
                np.lib.format.write_array(member, array, allow_pickle=False)


def _parquet(file: Any, columns: dict[str, Any], about: str) -> None:
    import pyarrow
    from pyarrow import parquet

    made = {}
    for name, column in columns.items():
        column = np.asarray(column)
        if column.dtype.kind == "U":
            made[name] = pyarrow.array(text(column.tolist()))
        elif column.ndim == 2:
            flat = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
            made[name] = pyarrow.FixedSizeListArray.from_arrays(flat, column.shape[1])
        else:
            made[name] = pyarrow.array(column)
    table = pyarrow.table(made).replace_schema_metadata({"about": about})
    parquet.write_table(table, file)
