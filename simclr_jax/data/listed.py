"""Reads lists of image files and tables of their labels.

A list is a text file with one path a line, or a table. A table is a .csv with the
columns `file` and `label`; without this first line they are the first two. Paths are
relative to the list's folder, or to the folder of images; empty lines don't count.
"""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from simclr_jax.errors import DataError, one_line

_FILE, _LABEL = "file", "label"
_MOST_NAMED = 3


def files(path: str) -> list[str]:
    """The paths in a list, each once.

    Raises:
      DataError: it can't be read, or names a file that is not there.
    """
    if path.lower().endswith(".csv"):
        found = [file for file, _ in rows(path, "path")]
    else:
        found = [x.strip() for x in _text(path, "path").splitlines()]
    once = list(dict.fromkeys(filter(None, found)))
    folder = os.path.dirname(path)
    missing = [x for x in once if not os.path.isfile(os.path.join(folder, x))]
    if missing:
        raise DataError(
            "path",
            f"{path} names {len(missing):,} files that are not in its folder: "
            f"{named(missing)}",
        )
    return once


def rows(path: str, argument: str) -> list[tuple[str, str]]:
    """File and label of each row of a table; "" where a label is missing.

    Args:
      argument: the one that named the table, for messages.

    Raises:
      DataError: it can't be read, or names a file twice.
    """
    try:
        table = [row for row in csv.reader(_text(path, argument).splitlines()) if row]
    except csv.Error as error:
        raise DataError(argument, f"cannot read {path}: {one_line(error)}") from error
    head = [cell.strip().lower() for cell in table[0]] if table else []
    places = [0, 1]
    if _FILE in head:
        del table[0]
        places = [
            head.index(_FILE),
            head.index(_LABEL) if _LABEL in head else len(head),
        ]
    found: dict[str, str] = {}
    for row in table:
        file, label = (row[k].strip() if k < len(row) else "" for k in places)
        file = os.path.normpath(file).replace(os.sep, "/") if file else ""
        if file in found:
            raise DataError(
                argument, f"{path} names {file} twice; name each image once"
            )
        if file:
            found[file] = label
    if not found:
        raise DataError(
            argument, f"{path} names no image; its columns must be file,label"
        )
    return list(found.items())


def named(names: Iterable[str]) -> str:
    """The first names and how many more there are."""
    listed = list(names)
    more = len(listed) - _MOST_NAMED
    shown = ", ".join(listed[:_MOST_NAMED])
    return shown + (f" and {more:,} more" if more > 0 else "")


def _text(path: str, argument: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(argument, f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(argument, f"cannot read {path}: {one_line(error)}") from error
