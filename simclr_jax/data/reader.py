"""What a data set offers to the sources: the Reader interface and what readers share.

A Reader passes over one stored split in batches. `simclr_jax.data.arrays` has one for
arrays in memory, `simclr_jax.data.tfds` one for TFDS records;
`simclr_jax.data.sources` makes Resident and Stream of any.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from simclr_jax.errors import DataError

# {"image" uint8 [B, H, W, C], "label" int32 [B], "index" int32 [B]}; with "dataset"
# in place of "image" and "label" when resident; with "mask" bool [B] when `ordered`.
Batch = dict[str, Any]


class Info(NamedTuple):
    """What `simclr_jax.data.describe` finds out without decoding an image."""

    name: str
    num_examples: dict[str, int]  # by split
    num_classes: int  # 0: a data set without labels
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]  # as stored; None: varies
    file_names: bool = False  # whether `simclr_jax.data.file_names` can read them


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
            f"the images of {info.name} vary in size; set the "
            "side in pixels to store them at, for example 256",
        )
    return height, width, channels


def limited(count: int, limit: int, what: str) -> int:
    """Number of examples under a limit (0: all).

    Raises:
      DataError: the limit is negative or more than there are.
    """
    if not 0 <= limit <= count:
        raise DataError(
            "limit",
            f"{limit} is not in 0..{count}, the examples of {what}; 0 takes all",
        )
    return limit or count


def no_split(name: str, split: str, splits: object) -> DataError:
    """The error for a split that the data set does not have."""
    return DataError("split", f"{name} has no split {split!r}; it has {splits}")
