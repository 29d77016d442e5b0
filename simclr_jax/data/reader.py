"""What every data set offers: the Dataset and Reader interfaces, and what they share.

A Dataset says what it holds and gives a Reader of each split; a Reader passes over its
split in batches. `arrays` has both for arrays in memory, `folder` for image files,
`tfds` and `tfds_builder` for TFDS; `sources` makes Resident and Stream of any Reader.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from simclr_jax.errors import DataError

# {"image" uint8 [B, H, W, C], "label" int32 [B], "index" int32 [B]}; with "dataset"
# in place of "image" and "label" when resident; with "mask" bool [B] when `ordered`.
Batch = dict[str, Any]


class Info(NamedTuple):
    """What a data set holds, known without decoding an image."""

    name: str
    num_examples: dict[str, int]  # by split
    num_classes: int  # 0: a data set without labels
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]  # as stored; None: varies
    file_names: bool = False  # whether `Reader.file_names` has any


class Reader(Protocol):
    """One split of a data set, wherever it lies."""

    @property
    def num_examples(self) -> int: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> np.ndarray: ...  # int32 [N] in stored order, -1: unlabelled

    def file_names(self) -> list[str]:
        """The N file names, in stored order.

        With TFDS it takes a pass over the split's files, which decodes no image.

        Raises:
          ValueError: there are none; see `Info.file_names`.
        """
        ...

    def read(
        self,
        batch_size: int,
        *,
        keep: np.ndarray | None = None,
        shuffle: tuple[int, ...] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Batch]:
        """One pass in numpy batches, the last one short if it does not come out even.

        Args:
          batch_size: images per batch.
          keep: increasing stored positions to read; None reads all.
          shuffle: seed of the order; None reads in stored order.
          start: examples of that order to pass over; they cost no decoding.
          stop: where to end in that order; None reads to its end.
        """
        ...


class Dataset(Protocol):
    """A data set that is all on disk."""

    info: Info

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 50_000,
    ) -> Reader:
        """Opens a split; decodes nothing yet unless it is of arrays.

        Args:
          split: "train", "test" or any split that TFDS understands ("train[:10%]").
          limit: only the first n examples in stored order; 0 takes all.
          stored_size: side s in pixels. Images are resized once when decoded (short
            side to s, bilinear with antialiasing) and cropped to the central [s, s]. 0
            keeps their own size, which must then be common to all. Resizing loads
            TensorFlow.
          shuffle_buffer: for tfrecord files, the encoded examples in host memory among
            which shuffling draws; other data sets are shuffled as a whole. A buffer as
            large as the split draws a uniform permutation; costs buffer x encoded size
            (CIFAR-10: 0.1 GB; ImageNet: 5.5 GB), filled anew at each epoch.

        Raises:
          DataError: an unknown split, a limit beyond it, or images of varying size with
            stored_size 0.
        """
        ...


def check_split(info: Info, split: str) -> None:
    """Raises DataError if the data set has no such split."""
    if split not in info.num_examples:
        raise no_split(info, split)


def no_split(info: Info, split: str) -> DataError:
    """The error for a split that the data set does not have."""
    there = ", ".join(info.num_examples)
    return DataError("split", f"{info.name} has no split {split!r}; it has {there}")


def stored_shape(info: Info, stored_size: int) -> tuple[int, int, int]:
    """(H, W, C) of the images a source will hold.

    Raises:
      DataError: stored_size is negative, or 0 for images without a common size.
    """
    height, width, channels = info.image_shape
    if stored_size < 0:
        raise DataError("stored_size", f"{stored_size} is negative")
    if stored_size:
        return stored_size, stored_size, channels
    if height is None or width is None:
        raise DataError(
            "stored_size",
            f"the images of {info.name} vary in size; set the side in pixels to store "
            "them at, for example 256",
        )
    return height, width, channels


def limited(count: int, limit: int, what: str) -> int:
    """How many of `count` examples a limit leaves (0: all).

    Args:
      what: whose examples, for the message.

    Raises:
      DataError: the limit is negative or more than there are.
    """
    if not 0 <= limit <= count:
        raise DataError(
            "limit",
            f"{limit} is not in 0..{count}, the examples of {what}; 0 takes all",
        )
    return limit or count
