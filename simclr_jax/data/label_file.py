"""Labelled images named by a file.

The file has one image file name a line, as in the ImageNet subsets of
google-research/simclr (`imagenet_subsets/1percent.txt`): `n01440764_10026.JPEG`. The
names are compared with those of a folder's files, or with the TFDS feature `file_name`.
Every name must be found: an accuracy on "1 % of the labels" must be on those labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclr_jax.data.reader import Info
from simclr_jax.errors import DataError, one_line


def read(path: str) -> list[str]:
    """The names in the file; space around them and empty lines don't count.

    Raises:
      DataError: the file can't be read, names nothing, or names an image twice.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            "label_file",
            f"{path} does not exist; give the path of a text file with one "
            "image file name a line",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "label_file",
            f"cannot read {path}: {one_line(error)}; give a text file with "
            "one image file name a line",
        ) from error
    lines: dict[str, int] = {}  # name -> its line
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if name in lines:
            raise DataError(
                "label_file",
                f"line {number} of {path} repeats {name} of line "
                f"{lines[name]}; name each image once",
            )
        if name:
            lines[name] = number
    if not lines:
        raise DataError(
            "label_file", f"{path} names no image; write one image file name a line"
        )
    return list(lines)


def check(path: str, info: Info, images: int) -> int:
    """How many images the file names, if a data set of `info` may have them all.

    Args:
      images: size of the training split; its names are not read here.

    Raises:
      DataError: as `read` does; the data set has no file names, or there are more
        names than images.
    """
    listed = read(path)
    if not info.file_names:
        raise DataError(
            "label_file",
            f"{info.name} has no feature `file_name` to find the listed "
            'images by; set "" and take `label_fraction`',
        )
    if len(listed) > images:
        raise DataError(
            "label_file",
            f"{path} names {len(listed)} images, the training split has "
            f"{images}; list images of that split (`limit` cuts it)",
        )
    return len(listed)


def positions(path: str, stored: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Where the training split has the images that the file names.

    Args:
      stored: [N] file name of every image of the split, in stored order.
      labels: int [N], -1 where unlabelled.

    Returns:
      int [M], increasing, whatever the order in the file.

    Raises:
      DataError: as `read` does; the split lacks a listed image or has it more than
        once, or the image has no label.
    """
    listed = read(path)
    wanted = set(listed)
    found = np.array([k for k, name in enumerate(stored) if name in wanted], np.int64)
    present = {stored[k] for k in found}
    missing = [name for name in listed if name not in present]
    if missing:
        raise DataError(
            "label_file",
            f"{len(missing)} of the {len(listed)} images in {path} are not "
            f"in the training split, first {missing[0]}; its names are like "
            f"{stored[0]}; list images of that split (`limit` cuts it)",
        )
    if len(found) > len(listed):
        raise DataError(
            "label_file",
            f"{len(found)} training images bear the {len(listed)} names in "
            f"{path}; file names must tell this data set's images apart",
        )
    blank = found[labels[found] < 0]
    if len(blank):
        raise DataError(
            "label_file",
            f"{len(blank)} of the images in {path} have no label in the data "
            f"set, {stored[blank[0]]} first; leave them out",
        )
    return found
