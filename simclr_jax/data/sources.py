"""The two kinds of Source that feed training and evaluation: Resident and Stream.

A Resident keeps decoded images on every device; a batch is a vector of positions, and
the jitted step gathers its images (`take`). A Stream reads and decodes each batch. In
both, a training batch depends only on the seed and the step.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
import numpy as np

from simclr_jax import devices
from simclr_jax.data.order import check_batch_size, endless, permuted, slices
from simclr_jax.data.reader import Batch, Reader

_LOAD_BATCH = 1024  # images decoded at a time while filling a Resident


class Source:
    """Batches of one split (or of a subset of one); see Resident and Stream.

    Attributes:
      num_examples: N.
      num_classes: number of classes, 0 for a data set without labels.
      class_names: one name per class.
      image_shape: (H, W, C) of every image.
      labels: int32 [N] in stored order, -1 where unlabelled.
    """

    num_examples: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    labels: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def batches(
        self, batch_size: int, *, seed: tuple[int, ...], start: int = 0
    ) -> Iterator[Batch]:
        """Endless training batches; `take` turns one into images and labels.

        An epoch is N // batch_size full batches of one permutation, drawn from
        (*seed, epoch). It drops the remainder, which differs from epoch to epoch.

        Args:
          batch_size: B, at most N.
          seed: non-negative integers.
          start: global step to begin at, as an iterator from step 0 would go on.

        Raises:
          DataError: batch_size is not in 1..N.
        """
        check_batch_size(batch_size, self.num_examples, "training images")
        return endless(
            lambda epoch, first: self._epoch(batch_size, (*seed, epoch), first),
            start,
            self.num_examples // batch_size,
        )

    def _epoch(
        self, batch_size: int, seed: tuple[int, ...], first: int
    ) -> Iterator[Batch]:
        """The full batches of one epoch from batch number `first` on."""
        raise NotImplementedError

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """Once through in stored order, for evaluation.

        Every batch has batch_size rows, so that a step compiles once. Example 0 fills
        up the last batch; "mask" bool [B] is False for those rows.
        """
        raise NotImplementedError

    def subset(self, indices: np.ndarray) -> "Source":
        """The examples at these positions of this source, in this order."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Resident(Source):
    """Images decoded once and kept on every device of the run.

    A batch is {"index": int32 [B], "dataset": {"image": uint8 [M, H, W, C], "label":
    int32 [M]}}. A subset shares its parent's arrays (then M > N), and its "index" holds
    positions in those arrays.
    """

    dataset: dict[str, jax.Array]
    positions: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_examples(self) -> int:
        return len(self.positions)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.dataset["image"].shape[1:]
        return height, width, channels

    def _epoch(
        self, batch_size: int, seed: tuple[int, ...], first: int
    ) -> Iterator[Batch]:
        order = permuted(self.positions, seed)
        for index in slices(order, batch_size, first):
            yield {"index": index, "dataset": self.dataset}

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        for first in range(0, self.num_examples, batch_size):
            rows = {"index": self.positions[first : first + batch_size]}
            rows = _filled(rows, {"index": self.positions[:1]}, batch_size)
            yield {**rows, "dataset": self.dataset}

    def subset(self, indices: np.ndarray) -> "Resident":
        return dataclasses.replace(
            self, positions=self.positions[indices], labels=self.labels[indices]
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Stream(Source):
    """Images read and decoded when needed, into numpy batches.

    A batch is {"image": uint8 [B, H, W, C], "label": int32 [B], "index": int32 [B]},
    where "index" is the position in the stored split, also for a subset. At first use
    `labels` reads the whole split once, without decoding images.
    """

    reader: Reader
    keep: np.ndarray | None  # increasing positions in the reader; None: all
    device_limit_gb: float  # subsets up to this size become Resident

    @property
    def num_examples(self) -> int:
        return self.reader.num_examples if self.keep is None else len(self.keep)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.reader.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.reader.image_shape

    @functools.cached_property
    def labels(self) -> np.ndarray:
        labels = self.reader.labels
        return labels if self.keep is None else labels[self.keep]

    def _epoch(
        self, batch_size: int, seed: tuple[int, ...], first: int
    ) -> Iterator[Batch]:
        return self.reader.read(
            batch_size,
            keep=self.keep,
            shuffle=seed,
            start=first * batch_size,
            stop=self.num_examples // batch_size * batch_size,
        )

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        filler: Batch = {}
        for batch in self.reader.read(batch_size, keep=self.keep):
            filler = filler or {name: rows[:1] for name, rows in batch.items()}
            yield _filled(batch, filler, batch_size)

    def subset(self, indices: np.ndarray) -> Source:
        positions = np.arange(self.num_examples) if self.keep is None else self.keep
        return make_source(
            self.reader, keep=positions[indices], device_limit_gb=self.device_limit_gb
        )


def make_source(
    reader: Reader, *, device_limit_gb: float, keep: np.ndarray | None = None
) -> Source:
    """Builds a Resident if the images kept fit under the limit, else a Stream.

    Args:
      reader: reads one split.
      device_limit_gb: memory of each device for the decoded images, at most, in 1e9
        bytes.
      keep: [N] positions in the split; None keeps all.

    Raises:
      ValueError: it takes a Stream, and the positions are not increasing.
      IndexError: a position is outside the split.
    """
    count = reader.num_examples
    positions = np.arange(count) if keep is None else keep
    increasing, back = np.unique(positions, return_inverse=True)
    in_order = np.array_equal(increasing, positions)
    if len(increasing) and not 0 <= increasing[0] <= increasing[-1] < count:
        raise IndexError(f"positions outside 0..{count - 1}")
    if len(positions) * math.prod(reader.image_shape) > device_limit_gb * 1e9:
        if not in_order:
            raise ValueError("a streamed subset needs increasing positions; sort them")
        return Stream(reader, keep, device_limit_gb)
    source = _resident(reader, None if keep is None else increasing)
    return source if in_order else source.subset(back)


def _resident(reader: Reader, keep: np.ndarray | None) -> Resident:
    """Decodes the images to keep (increasing positions) into arrays on the devices."""
    count = reader.num_examples if keep is None else len(keep)
    images = np.empty((count, *reader.image_shape), np.uint8)
    labels = np.empty(count, np.int32)
    done = 0
    for batch in reader.read(_LOAD_BATCH, keep=keep):
        rows = slice(done, done + len(batch["index"]))
        images[rows], labels[rows] = batch["image"], batch["label"]
        done = rows.stop
    return Resident(
        dataset=devices.put({"image": images, "label": labels}, devices.whole()),
        positions=np.arange(count, dtype=np.int32),
        labels=labels,
        class_names=reader.class_names,
    )


def _filled(rows: Batch, filler: Batch, batch_size: int) -> Batch:
    """Fills rows up to batch_size; adds the mask, which is True for the real ones."""
    count = len(rows["index"])
    if count < batch_size:
        rows = {
            name: np.concatenate([array, *[filler[name]] * (batch_size - count)])
            for name, array in rows.items()
        }
    return {**rows, "mask": np.arange(batch_size) < count}


def take(batch: Batch) -> Batch:
    """Images and labels of a Resident's or Stream's batch; call it in the jitted step.

    Returns:
      {"image": uint8 [B, H, W, C], "label": int32 [B], "index": int32 [B]}, with "mask"
      bool [B] if the batch had one. A Stream's batch comes back as it is.
    """
    if "dataset" not in batch:
        return batch
    index = batch["index"]
    rows = {name: array[index] for name, array in batch["dataset"].items()}
    return rows | {name: batch[name] for name in ("index", "mask") if name in batch}
