"""Features of images in one file: `h [N, D]`, `file`, `label`, as .npz or Parquet."""

import importlib.util
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simclr_jax.files import replacing
from simclr_jax.signals import check_stop

FORMATS = ("npz", "parquet")
_PIECE = 8  # batches between two looks at the clock and at signals
_SILENCE = 2.0  # seconds


def missing(form: str) -> str:
    """The package that a format needs and that is not installed; "" if none."""
    there = form != "parquet" or importlib.util.find_spec("pyarrow")
    return "" if there else "pyarrow"


class Progress:
    """Says on stderr how many images are done, every other second and at the end.

    Args:
      doing: what is done to them.
      total: how many there are.
    """

    def __init__(self, doing: str, total: int):
        self._doing, self._total, self._done = doing, total, 0
        self._began = self._spoken = time.monotonic()

    def add(self, count: int) -> None:
        """Counts images that are done."""
        self._done, now = self._done + count, time.monotonic()
        ended = self._done == self._total and self._spoken > self._began
        if ended or now - self._spoken > _SILENCE:
            self._spoken = now
            rate = self._done / (now - self._began)
            print(
                f"{self._doing}: {self._done:,} of {self._total:,} images "
                f"({rate:,.0f} images/s)",
                file=sys.stderr,
                flush=True,
            )


def in_pieces(
    compute: Callable[[Any], Any], images: Any, batch_size: int, progress: Progress
) -> list[Any]:
    """`compute` of some batches of images at a time.

    Args:
      compute: of an array or list of images.
      images: N of them.
      batch_size: of the network; only the last piece has a smaller batch.
      progress: is told of each piece.

    Returns:
      What `compute` returned for each piece.

    Raises:
      StoppedError: a signal came.
    """
    total, size = len(images), _PIECE * batch_size
    found, start = [], 0
    while start < total:
        # What is left of the images joins the last whole piece: a piece with less than
        # a batch would compile another program.
        stop = total if total - start < size + batch_size else start + size
        check_stop()
        found.append(compute(images[start:stop]))
        progress.add(stop - start)
        start = stop
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
    form = _parquet if format_of(path) == "parquet" else _npz
    with replacing(path) as file:
        form(file, columns, json.dumps(about))


def read_about(path: str | os.PathLike) -> Any:
    """What `write` was told of the columns.

    Raises:
      OSError, ValueError, KeyError: there is no such file, or `write` did not write it.
    """
    if format_of(path) == "parquet":
        from pyarrow import parquet

        return json.loads(parquet.read_schema(path).metadata[b"about"])
    try:
        # Opened here, because np.load does not close a file that proves truncated.
        with open(path, "rb") as file, np.load(file) as archive:
            return json.loads(str(archive["about"]))
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


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
