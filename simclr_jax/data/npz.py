"""Reads the file of the data set "npz": arrays that someone else has written.

    train_images  uint8 [N, H, W] or [N, H, W, C]      train_labels  integers [N]
    test_images, test_labels                           may be missing

A label is a class's number, or -1. A file without test images is read in an order of
its own, which mixes its classes: so a part of it can be the test split.
"""

import contextlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from simclr_jax.data.fingerprint import fingerprint
from simclr_jax.data.order import permuted
from simclr_jax.data.reader import Info
from simclr_jax.errors import DataError, one_line

# What reading an archive raises if it is damaged, encrypted, or claims to hold more
# than fits into the memory.
UNREADABLE = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    *(RuntimeError, MemoryError, OverflowError),
)
_SPLITS = ("train", "test")
_ORDER = (0,)  # the seed of that order; another one would be another data set
_UNSPLIT = "{}: no test_images; its images are read in a fixed random order"
_LAYOUT = (
    "add test_images and test_labels, or cut a test split off: train[:90%] to train "
    "on, train[90%:] to test on"
)
# A label is the number of a class, and all classes up to it get a name and an output of
# the classifier. The largest public data sets have tens of thousands of classes.
_MOST_CLASSES = 1_000_000


def info(name: str, path: str) -> Info:
    """What the file at `path` holds, without its pixels.

    Args:
      name: of the data set, "npz".
      path: of the file.

    Raises:
      DataError: the file can't be read or holds the wrong arrays.
    """
    with _opened(path) as archive:
        splits = _splits(archive)
        found = {split: _image_shape(archive, path, split) for split in splits}
        labels = {split: _labels(archive, path, split) for split in splits}
        assert archive.zip is not None  # until it is closed
        checksums = {x.filename: x.CRC for x in archive.zip.infolist()}
    _, *shape = found["train"]
    _, *test_shape = found.get("test", found["train"])
    if shape != test_shape:
        raise DataError(
            "path",
            f"{path} has training images {shape} and test images {test_shape}; they "
            "must have the same shape",
        )
    height, width, channels = shape
    classes = max(x.max() for x in labels.values()) + 1  # over both splits
    names = tuple(str(number) for number in range(classes))
    counts = {split: count for split, (count, *_) in found.items()}
    prints = {
        split: fingerprint(
            count, [checksums.get(f"{split}_{x}.npy") for x in ("images", "labels")]
        )
        for split, count in counts.items()
    }
    return Info(
        *(name, counts, len(names), names, (height, width, channels)),
        fingerprints=prints,
        found=() if "test" in counts else (_UNSPLIT.format(path),),
        layout="" if "test" in counts else _LAYOUT,
        present={x: len(np.unique(y[y >= 0])) for x, y in labels.items()},
    )


def read(path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C] and labels int32 [N] of "train" or "test".

    Args:
      path: of the file.
      split: one of `info`'s.
    """
    with _opened(path) as archive:
        whole = "test" not in _splits(archive)
        images = archive[f"{split}_images"]
        labels = _labels(archive, path, split)
    images = images.reshape(*images.shape[:3], -1)
    if whole:
        order = permuted(np.arange(len(labels)), _ORDER)
        images, labels = images[order], labels[order]
    return images, labels


def _splits(archive: np.lib.npyio.NpzFile) -> list[str]:
    """The splits of a file: train, and test if it is there."""
    return [x for x in _SPLITS if x == "train" or f"{x}_images" in archive.files]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[np.lib.npyio.NpzFile]:
    """Opens the .npz file at `path`; raises DataError if it can't be read."""
    if not path:
        raise DataError("path", "empty; 'npz' needs the path of an .npz file")
    try:
        require_file(path)
        # Opened here, because np.load does not close a file that proves truncated.
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an .npz archive")
            with archive:
                yield archive
    except FileNotFoundError as error:
        raise DataError("path", f"{path} does not exist") from error
    except UNREADABLE as error:
        raise DataError("path", f"cannot read {path}: {one_line(error)}") from error


def require_file(path: str) -> None:
    """Raises OSError if it is a pipe or a device, whose reader may wait for ever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("it is not a regular file")


def header(archive: np.lib.npyio.NpzFile, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, whose content is not read.

    Raises:
      ValueError: it is no array.
    """
    assert archive.zip is not None  # until it is closed
    if key in archive.zip.namelist():  # np.load gives bytes, or an array
        raise ValueError(f"the member {key} has no suffix .npy, which np.savez writes")
    with archive.zip.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
    return shape, dtype


def require_labels(
    archive: np.lib.npyio.NpzFile, path: str, key: str, count: int
) -> None:
    """Raises DataError unless an array has `count` integers; does not read them."""
    shape, dtype = header(archive, key)
    if shape != (count,) or dtype.kind not in "iu":
        raise DataError(
            "path",
            f"{key} in {path} is {dtype} {list(shape)}; it must be {count} integers",
        )


def _image_shape(
    archive: np.lib.npyio.NpzFile, path: str, split: str
) -> tuple[int, int, int, int]:
    """[N, H, W, C] of a split's images, read from the header without the pixels."""
    key = f"{split}_images"
    if key not in archive.files:
        raise DataError(
            "path",
            f"{path} has no {key!r}; it needs train_images, and may have "
            "train_labels, test_images and test_labels",
        )
    shape, dtype = header(archive, key)
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            "path",
            f"{key} in {path} is {dtype} {list(shape)}; it must be uint8 "
            "[N, H, W] or [N, H, W, C]",
        )
    count, height, width, *channels = shape
    return count, height, width, channels[0] if channels else 1


def _labels(archive: np.lib.npyio.NpzFile, path: str, split: str) -> np.ndarray:
    """int32 [N]; all -1 where the archive has none."""
    key, count = f"{split}_labels", _image_shape(archive, path, split)[0]
    if key not in archive.files:
        return np.full(count, -1, np.int32)
    require_labels(archive, path, key, count)
    labels = archive[key]
    # Before they become int32, in which 2^32 would be 0.
    for label in (int(labels.min()), int(labels.max())):
        if not -1 <= label < _MOST_CLASSES:
            raise DataError(
                "path",
                f"{key} in {path} has the label {label}; labels must be integers from "
                f"0 to {_MOST_CLASSES - 1}, or -1 where there is none",
            )
    return labels.astype(np.int32)
