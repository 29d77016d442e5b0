"""The interfaces of every data set, Dataset and Reader, and the checks they share.

A Dataset says what it holds and opens a Reader for each split; a Reader reads its split
in batches. `arrays` implements both for arrays in memory, `folder` for image files,
`tfds` and `tfds_builder` for TFDS. `sources` builds a Resident or Stream on a Reader.
"""

from collections.abc import Iterator, Mapping
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
    image_shape: tuple[int | None, int | None, int]  # as stored; None: it varies
    file_names: bool = False  # whether `Reader.file_names` has any
    fingerprints: dict[str, Any] | None = None  # by split; see data.fingerprint
    found: tuple[str, ...] = ()  # lines that say what was found in a folder
    layout: str = ""  # where files must lie for a split that is missing
    present: dict[str, int] | None = None  # by split: classes that have an image
    bits: int = 0  # of greyscale files with more than 8; see image_files.decode
    damaged: Mapping[str, str] = {}  # files left out: whole path -> why


class Reader(Protocol):
    """One split of a data set, wherever it is stored."""

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

        For TFDS this reads all files of the split, without decoding images.

        Raises:
          ValueError: the data set has none; see `Info.file_names`.
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
        rows: slice | None = None,
    ) -> Iterator[Batch]:
        """Reads the split once, in numpy batches; the last one may be smaller.

        Args:
          batch_size: images per batch.
          keep: increasing stored positions to read; None reads all.
          shuffle: seed of the order; None reads in stored order.
          start: examples of that order to skip, without decoding them.
          stop: position in that order to stop at; None reads to the end.
          rows: slice(first, last): of each batch only these rows are decoded and given.
            The last batch may have fewer of them, or none; it is given all the same.
            None gives all rows.
        """
        ...


class Dataset(Protocol):
    """A data set whose files are all on disk."""

    info: Info

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 50_000,
    ) -> Reader:
        """Opens a split. Only a data set of arrays reads its images here already.

        Args:
          split: "train", "test" or a part of one, as "train[:10%]"; see splits.parts.
          limit: keeps the first n examples in stored order; 0 keeps all.
          stored_size: side s in pixels. Images are resized once when decoded (short
            side to s, bilinear with antialiasing) and cropped to the central [s, s]. 0
            keeps the stored size, which must then be the same for all. Resizing loads
            TensorFlow, except of a folder's images.
          shuffle_buffer: for tfrecord files, the number of encoded examples in host
            memory that shuffling draws from; other data sets are shuffled as a whole.
            A buffer as large as the split gives a uniform permutation. It takes buffer
            x encoded size (CIFAR-10: 0.1 GB; ImageNet: 5.5 GB) and is filled anew at
            each epoch.

        Raises:
          DataError: the split is unknown, the limit exceeds it, or stored_size is 0 and
            the images vary in size.
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
            f"the images of {info.name} vary in size; set the side in pixels at which "
            "to store them, for example 256",
        )
    return height, width, channels


def limited(count: int, limit: int, what: str) -> int:
    """How many of `count` examples remain under a limit (0: all).

    Args:
      what: names the data set and split in the message.

    Raises:
      DataError: the limit is not in 0..count.
    """
    if limit < 0:
        raise DataError("limit", f"{limit} is negative; 0 takes all images")
    if limit > count:
        raise DataError(
            "limit", f"{limit} is more than the {count} images of {what}; 0 takes all"
        )
    return limit or count
