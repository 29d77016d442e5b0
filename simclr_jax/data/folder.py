"""Reads your own image files from a folder: the data set "folder".

    PATH/**/*.jpg              one split, `train`, without labels
    PATH/SPLIT/CLASS/*.jpg     split SPLIT with classes; one of them is `train`
    PATH/SPLIT/*.jpg           split SPLIT without labels, as `unlabelled`

Pillow decodes what cameras and phones write, in several threads.
"""

import functools
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simclr_jax.data.image_files import decode, suffixes
from simclr_jax.data.order import permuted
from simclr_jax.data.pool import in_order
from simclr_jax.data.reader import Batch, Info, check_split, limited, stored_shape
from simclr_jax.data.rows import completed, in_rows
from simclr_jax.errors import DataError, one_line

NAME = "folder"
_BATCHES_AHEAD = 2  # decoded before they are asked for


class _Split(NamedTuple):
    files: tuple[str, ...]  # below the folder, in stored order
    classes: tuple[str | None, ...]  # of each file


class FolderDataset:
    """The folder at `path`; opens no image. See reader.Dataset.

    Raises:
      DataError: no such folder, no image in it, or a class that `train` lacks.
    """

    def __init__(self, name: str, path: str):
        counts = {key: len(split.files) for key, split in _splits(path).items()}
        names = _class_names(path)
        self._path = path
        self.info = Info(
            name, counts, len(names), names, (None, None, 3), file_names=True
        )

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 0,
    ) -> "FolderReader":
        """See reader.Dataset."""
        check_split(self.info, split)
        size, _, _ = stored_shape(self.info, stored_size)
        count = limited(self.info.num_examples[split], limit, f"{NAME} {split}")
        return FolderReader(self._path, split, self.info.class_names, size, count)


@functools.cache
def _splits(path: str) -> dict[str, _Split]:
    """The folder's splits by name, files in the order of `_files`."""
    if not path:
        raise DataError("path", "empty; 'folder' needs the path of a folder")
    root = Path(path)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError("path", f"{path} {what}")
    if (root / "train").is_dir():
        folders = sorted(x.name for x in root.iterdir() if x.is_dir() and _seen(x.name))
        splits = {name: _split(root, name) for name in folders}
    else:
        files = _files(root)
        splits = {"train": _Split(files, (None,) * len(files))}
    splits = {name: split for name, split in splits.items() if split.files}
    if not splits:
        raise DataError(
            "path",
            f"no image file in {path}; image files end in {', '.join(suffixes())}",
        )
    return splits


def _split(root: Path, name: str) -> _Split:
    files = tuple(f"{name}/{file}" for file in _files(root / name))
    # split/class/.../file; one file outside the class folders means no classes.
    parts = [file.split("/") for file in files]
    if any(len(part) < 3 for part in parts):
        return _Split(files, (None,) * len(files))
    return _Split(files, tuple(part[1] for part in parts))


def _files(folder: Path) -> tuple[str, ...]:
    """All image files below a folder, as paths from there, in stored order.

    A hash of the name gives the order, so the first n files mix classes and dates.
    """
    images, visited = [], set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link to a folder seen before, or above
            below.clear()
            continue
        visited.add(real)
        below[:] = filter(_seen, below)
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        images += [
            prefix + name
            for name in files
            if _seen(name) and name.lower().endswith(suffixes())
        ]
    return tuple(sorted(images, key=lambda name: (zlib.crc32(os.fsencode(name)), name)))


def _seen(name: str) -> bool:
    """Whether a name is not hidden, unlike .DS_Store and ._photo.jpg."""
    return not name.startswith(".")


def _class_names(path: str) -> tuple[str, ...]:
    """The class folders of `train`, sorted; if it has none, those of all splits."""
    splits = _splits(path)
    classes = {
        name: {label for label in split.classes if label is not None}
        for name, split in splits.items()
    }
    known = classes.get("train") or set().union(*classes.values())
    for name, labels in classes.items():
        if labels - known:
            raise DataError(
                "path",
                f"{path}/{name} has the class folder {min(labels - known)!r}, which "
                f"{path}/train lacks",
            )
    return tuple(sorted(known))


class FolderReader:
    """The first `count` images of a split, as squares of `size`; see reader.Reader."""

    def __init__(
        self, path: str, split: str, class_names: tuple[str, ...], size: int, count: int
    ):
        files, classes = _splits(path)[split]
        number = {name: i for i, name in enumerate(class_names)} | {None: -1}
        self._path, self._files = path, files[:count]
        self.num_examples, self.class_names = count, class_names
        self.image_shape = (size, size, 3)
        self.labels = np.array([number[x] for x in classes[:count]], np.int32)

    def file_names(self) -> list[str]:
        """Without their folders, as published lists have them."""
        return [file.rpartition("/")[2] for file in self._files]

    def read(
        self,
        batch_size: int,
        *,
        keep: np.ndarray | None = None,
        shuffle: tuple[int, ...] | None = None,
        start: int = 0,
        stop: int | None = None,
        rows: slice | None = None,
    ) -> Iterator[Batch]:
        """One pass; see reader.Reader."""
        order = np.arange(self.num_examples) if keep is None else keep
        order = order if shuffle is None else permuted(order, shuffle)
        order = order[start:stop].astype(np.int32)
        count = math.ceil(len(order) / batch_size)
        rows = rows or slice(0, batch_size)
        mine = in_rows(order, batch_size, rows)
        batches = self._batches(mine, rows.stop - rows.start)
        return completed(batches, count, self.image_shape)

    def _batches(self, order: np.ndarray, size: int) -> Iterator[Batch]:
        """The images at these positions; the last batch may be smaller."""
        images = in_order(self._image, order, ahead=_BATCHES_AHEAD * size)
        for first in range(0, len(order), size):
            index = order[first : first + size]
            image = np.empty((len(index), *self.image_shape), np.uint8)
            for row in image:
                row[:] = next(images)
            yield {"image": image, "label": self.labels[index], "index": index}

    def _image(self, position: int) -> np.ndarray:
        file = os.path.join(self._path, self._files[position])
        try:
            return decode(file, self.image_shape[0])
        # Pillow's decoders raise errors of many types for damaged bytes.
        except Exception as error:
            reason = one_line(str(error).replace(file, "it"))
            raise DataError(
                "path", f"cannot read {file}: {reason}; repair it or remove it"
            ) from error
