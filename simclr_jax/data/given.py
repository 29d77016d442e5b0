"""Images that someone names by a path: a folder, one file, or an .npz archive.

They need no split and no recipe. `pictures` prepares them for a network.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simclr_jax.data import damage, npz, summary
from simclr_jax.data.arrays import ArrayDataset
from simclr_jax.data.folder import FolderReader
from simclr_jax.data.reader import Info, Reader
from simclr_jax.data.scan import scan
from simclr_jax.errors import DataError, one_line, refused


class Given(NamedTuple):
    """The images and what is known of each, in one order.

    Attributes:
      images: names of files, or uint8 [N, H, W, C].
      files: N names, of files below the folder; of arrays their place in the archive.
      labels: int32 [N], -1 where there is none.
      class_names: in the order of the labels.
      bits: of greyscale files with more than 8; see `image_files.decode`.
      found: lines that say what was found in a folder.
      damaged: files of a folder that were left out: whole path -> why.
    """

    images: np.ndarray | list[str]
    files: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    bits: int = 0
    found: tuple[str, ...] = ()
    damaged: Mapping[str, str] = {}


def read(path: str | os.PathLike, skip_damaged: int = 0) -> Given:
    """Finds the images at a path. It decodes files only to find damaged ones.

    Args:
      path: a folder, flat or with class folders, with splits or without; an image file;
        or an .npz archive with `images` and perhaps `labels`, or with those of the data
        set "npz". ~ is the home folder.
      skip_damaged: how many damaged files of a folder, at most, are left out. If it is
        not 0, all files are decoded here to find them.

    Raises:
      DataError: there are no images, or they can't be read.
    """
    if why := refused(path):
        raise DataError("path", f"can't use {path}: {why}")
    place = Path(path).expanduser()
    if place.is_dir():
        return _folder(str(place), skip_damaged)
    if not place.exists():
        raise DataError("path", f"there is no file or folder {place}")
    if place.suffix.lower() == ".npz":
        return _archive(str(place))
    return Given([str(place)], [place.name], np.full(1, -1, np.int32))


def names(reader: Reader, split: str, info: Info) -> list[str]:
    """A name for each image of a split: of its file below the folder, or TFDS's
    `file_name`, or the position in the split.

    Args:
      reader: of the split.
      split: its name, for the positions.
      info: of the data set.
    """
    if isinstance(reader, FolderReader):
        return list(reader.files)
    if info.file_names:
        return reader.file_names()
    return [f"{split}[{row}]" for row in range(reader.num_examples)]


def _folder(path: str, skip_damaged: int) -> Given:
    """All splits of a folder, one after the other, each in its stored order."""
    found = scan(path)
    checked = damage.check(path, thorough=skip_damaged > 0)
    damage.require_few(path, checked, skip_damaged)
    splits = {name: x.without(checked.damaged) for name, x in found.splits.items()}
    files = [file for split in splits.values() for file in split.files]
    classes = [name for split in splits.values() for name in split.classes]
    names = sorted({name for name in classes if name is not None})
    number = {name: i for i, name in enumerate(names)} | {None: -1}
    return Given(
        [os.path.join(path, file) for file in files],
        files,
        np.array([number[name] for name in classes], np.int32),
        tuple(names),
        checked.bits,
        tuple(summary.lines(path, splits, found, checked)),
        damage.placed(path, checked.damaged),
    )


def _archive(path: str) -> Given:
    """The arrays of an .npz archive."""
    try:
        npz.require_file(path)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if "images" in archive.files:
                return _arrays(path, archive)
    except npz.UNREADABLE as error:
        raise DataError("path", f"cannot read {path}: {one_line(error)}") from error
    dataset = ArrayDataset("npz", path)  # which says what is missing
    splits = {name: dataset.reader(name) for name in dataset.info.num_examples}
    return Given(
        np.concatenate([split.images for split in splits.values()]),
        [
            f"{name}_images[{row}]"
            for name, split in splits.items()
            for row in range(split.num_examples)
        ],
        np.concatenate([split.labels for split in splits.values()]),
        dataset.info.class_names,
    )


def _arrays(path: str, archive: np.lib.npyio.NpzFile) -> Given:
    shape, dtype = npz.header(archive, "images")
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            "path",
            f"images in {path} is {dtype} {list(shape)}; it must be uint8 [N, H, W] "
            "or [N, H, W, C]",
        )
    count, labels = shape[0], np.full(shape[0], -1, np.int32)
    if "labels" in archive.files:
        npz.require_labels(archive, path, "labels", count)
        labels = archive["labels"]
    images = archive["images"]
    files = [f"images[{row}]" for row in range(count)]
    return Given(images.reshape(*images.shape[:3], -1), files, labels.astype(np.int32))
