"""Finds the labelled images that a text file lists.

The file has one image file name per line, as in the ImageNet subsets of
google-research/simclr (`imagenet_subsets/1percent.txt`): `n01440764_10026.JPEG`. The
names are compared with those of a folder's files, or with the TFDS feature `file_name`.
Every name must be found, so that "1 % of the labels" means exactly the listed ones.
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
            "image file name per line",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "label_file",
            f"cannot read {path}: {one_line(error)}; give a text file with "
            "one image file name per line",
        ) from error
    lines: dict[str, int] = {}  # name -> its line
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if name in lines:
            raise DataError(
                "label_file",
                f"lines {lines[name]} and {number} of {path} both name {name}; name "
                "each image once",
            )
        if name:
            lines[name] = number
    if not lines:
        raise DataError(
            "label_file",
            f"{path} names no image; write one image file name per line",
        )
    return list(lines)


def check(path: str, info: Info, images: int) -> int:
    """Counts the images that the file names; checks that a data set can have them.

    Args:
      images: size of the training split. Its names are not read here.

    Raises:
      DataError: as `read` does; the data set has no file names, or there are more
        names than images.
    """
    listed = read(path)
    if not info.file_names:
        raise DataError(
            "label_file",
            f"{info.name} has no feature `file_name`, so the listed images can't be "
            'found; set this to "" and use `label_fraction`',
        )
    if len(listed) > images:
        raise DataError(
            "label_file",
            f"{path} names {len(listed)} images, but the training split has only "
            f"{images}; list images of that split (`limit` shortens it)",
        )
    return len(listed)


def positions(path: str, stored: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """The positions in the training split of the images that the file names.

    Args:
      stored: [N] file name of every image of the split, in stored order.
      labels: int [N], -1 where unlabelled.

    Returns:
      int [M], increasing, whatever the order in the file.

    Raises:
      DataError: as `read` does; a listed image is not in the split, is in it more
        than once, or has no label.
    """
    listed = read(path)
    wanted = set(listed)
    rows = np.array([k for k, name in enumerate(stored) if name in wanted], np.int64)
    present = {stored[k] for k in rows}
    missing = [name for name in listed if name not in present]
    if missing:
        raise DataError(
            "label_file",
            f"{len(missing)} of the {len(listed)} images in {path} are not in the "
            f"training split, for example {missing[0]}; the split's names look like "
            f"{stored[0]}; list images of that split (`limit` shortens it)",
        )
    if len(rows) > len(listed):
        raise DataError(
            "label_file",
            f"{len(rows)} training images share the {len(listed)} names in {path}; "
            "each listed name must belong to one image",
        )
    unlabelled = rows[labels[rows] < 0]
    if len(unlabelled):
        raise DataError(
            "label_file",
            f"{len(unlabelled)} of the images in {path} have no label in the data "
            f"set, for example {stored[unlabelled[0]]}; leave them out",
        )
    return rows
