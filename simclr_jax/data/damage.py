"""Looks into the files of a folder before a run: sizes, greys, and damaged files."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from simclr_jax.data import image_files
from simclr_jax.data.pool import in_order
from simclr_jax.data.scan import scan
from simclr_jax.errors import DataError, one_line

MOST_HEADERS = 100_000  # files whose headers are read: 10 s or so on one core
MOST_DOUBTFUL = 1000  # files that look cut and are decoded to know
MOST_DEEP = 256  # greyscale files of more than 8 bits whose values are looked at
_MOST_NAMED = 5
_MOST_LISTED = 100  # lines before an error
_AHEAD = 256
_SIDE = 8  # a JPEG's smallest decoding reads the whole file too


class DamagedError(DataError):
    """Several files can't be read.

    Attributes:
      lines: for people who repair the files: one line for each, up to 100. Empty if the
        message names all of them.
    """

    lines: tuple[str, ...] = ()


class Check(NamedTuple):
    """What the files of a folder are like."""

    damaged: dict[str, str]  # file -> why it can't be read
    smallest: tuple[int, int]  # width and height, of the fewest pixels
    largest: tuple[int, int]
    looked_at: int  # files
    deep: int  # greyscale files of more than 8 bits
    bits: int  # how many of them hold their values; 0: there are none


@functools.cache
def check(path: str, *, thorough: bool) -> Check:
    """Reads the headers of a folder's files, in threads, once in a process.

    Args:
      path: the folder.
      thorough: decode all files. Otherwise only JPEG and PNG files that look cut are
        decoded, up to 1,000, and of more than 100,000 files only the first are looked
        at.

    Raises:
      DataError: as `scan` does, or no file can be read.
    """
    found = scan(path)
    splits, root = found.splits.values(), found.root
    files = list(dict.fromkeys(file for split in splits for file in split.files))
    if not thorough:
        files = files[:MOST_HEADERS]

    def look(file: str) -> tuple[int, int, str, bool]:
        place = os.path.join(root, file)
        return *image_files.header(place), thorough or image_files.looks_cut(place)

    damaged: dict[str, str] = {}
    sizes, deep, doubtful = set(), [], []
    for file, (seen, why) in _tried(look, root, files):
        if seen is None:
            damaged[file] = why
            continue
        width, height, mode, doubted = seen
        sizes.add((width * height, width, height))
        if image_files.deep(mode):
            deep.append(file)
        if doubted:
            doubtful.append(file)
    doubtful = doubtful if thorough else doubtful[:MOST_DOUBTFUL]
    for file, (seen, why) in _tried(
        lambda file: image_files.decode(os.path.join(root, file), _SIDE), root, doubtful
    ):
        if seen is None:
            damaged[file] = why
    if len(damaged) == len(files):
        raise _unreadable(root, damaged, len(files), 0)
    return Check(
        damaged,
        smallest=min(sizes)[1:],
        largest=max(sizes)[1:],
        looked_at=len(files),
        deep=len(deep),
        bits=_bits(root, deep[:MOST_DEEP]),
    )


def _tried(
    function: Callable[[str], Any], path: str, files: list[str]
) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Each file and what the function says of it, or None and why it can't be read."""

    def tried(file: str) -> tuple[Any, str]:
        try:
            return function(file), ""
        # Pillow's decoders raise errors of many types for damaged bytes.
        except Exception as error:
            return None, reason(error, os.path.join(path, file))

    return zip(files, in_order(tried, files, ahead=_AHEAD), strict=True)


def _bits(path: str, files: list[str]) -> int:
    """The bits that hold the values of these files; damaged ones do not count."""

    def largest(file: str) -> int:
        return image_files.largest(os.path.join(path, file))

    values = [value or 0 for _, (value, _) in _tried(largest, path, files)]
    return image_files.bits_for(max(values)) if values else 0


def require_few(path: str, found: Check, limit: int) -> None:
    """Raises DataError if more files are damaged than `limit`."""
    if len(found.damaged) > limit:
        raise _unreadable(path, found.damaged, found.looked_at, limit)


def unreadable(file: str, why: str) -> DataError:
    """The error for a damaged file."""
    return DataError(
        "path",
        f"cannot read {file}: {why}; repair it or remove it, or let `skip_damaged` "
        "skip it",
    )


def _unreadable(
    path: str, damaged: Mapping[str, str], looked_at: int, limit: int
) -> DataError:
    if len(damaged) == 1:
        ((file, why),) = damaged.items()
        return unreadable(os.path.join(path, file), why)
    error = DamagedError(
        "path",
        f"cannot read {len(damaged):,} of the {looked_at:,} image files in {path}: "
        f"{named(damaged)}; repair them or remove them, or let `skip_damaged` skip so "
        f"many (it is {limit})",
    )
    error.lines = tuple(listed(damaged, _MOST_LISTED))
    return error


def named(damaged: Mapping[str, str]) -> str:
    """The first damaged files and why they can't be read."""
    shown = [f"{file} ({why})" for file, why in list(damaged.items())[:_MOST_NAMED]]
    more = len(damaged) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def listed(damaged: Mapping[str, str], most: int | None = None) -> list[str]:
    """A line for each damaged file; none if `named` names all of them.

    Args:
      most: lines. Then one says how many more there are. None: all files.
    """
    if len(damaged) <= _MOST_NAMED:
        return []
    lines = [f"  damaged: {file} ({why})" for file, why in damaged.items()]
    if most is None or len(lines) <= most:
        return lines
    return [*lines[:most], f"  and {len(lines) - most:,} more damaged files"]


def placed(path: str, damaged: Mapping[str, str]) -> dict[str, str]:
    """The damaged files by their whole paths.

    Args:
      path: the folder that they lie below.
      damaged: from `Check`.
    """
    root = os.path.abspath(path)
    return {os.path.join(root, file): why for file, why in damaged.items()}


def reason(error: Exception, file: str) -> str:
    """Why a file can't be read, on one line without its name."""
    if type(error).__name__ == "UnidentifiedImageError":  # Pillow's
        return "not an image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(str(error).replace(file, "it")) or type(error).__name__
