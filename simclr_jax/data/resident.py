"""What every Source promises, and the Resident, whose images are on the devices."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from simclr_jax.data.order import check_batch_size, endless, permuted, slices
from simclr_jax.data.reader import Batch


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
        up the last batch (zeros, if several processes read it); "mask", NumPy bool [B],
        is False for those rows.
        """
        raise NotImplementedError

    def images(self, indices: np.ndarray) -> np.ndarray:
        """The images at these increasing positions: NumPy uint8 [N, H, W, C].

        A process needs no other process for it.
        """
        raise NotImplementedError

    def subset(self, indices: np.ndarray) -> "Source":
        """The examples at these positions of this source, in this order."""
        raise NotImplementedError

    def sample(self, most: int) -> "Source":
        """At most so many examples, evenly spaced in stored order.

        It takes no memory on the devices: of a Stream it is one too, however small.
        """
        count = min(most, self.num_examples)
        return self._sampled(np.arange(count) * self.num_examples // max(count, 1))

    def _sampled(self, indices: np.ndarray) -> "Source":
        return self.subset(indices)


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
            mask = np.arange(batch_size) < len(rows["index"])
            rows = filled(rows, {"index": self.positions[:1]}, batch_size)
            yield {**rows, "dataset": self.dataset, "mask": mask}

    def images(self, indices: np.ndarray) -> np.ndarray:
        on_one_device = self.dataset["image"].addressable_data(0)
        return np.asarray(on_one_device[self.positions[indices]])

    def subset(self, indices: np.ndarray) -> "Resident":
        return dataclasses.replace(
            self, positions=self.positions[indices], labels=self.labels[indices]
        )


def filled(rows: Batch, filler: Batch, count: int) -> Batch:
    """Fills rows up to `count` with copies of the filler, a batch of one row."""
    missing = count - len(rows["index"])
    if not missing:
        return rows
    return {
        name: np.concatenate([array, np.repeat(filler[name], missing, axis=0)])
        for name, array in rows.items()
    }


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
