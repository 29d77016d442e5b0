"""The two kinds of Source that feed training and evaluation: Resident and Stream.

A Resident keeps decoded images on every device; a batch is a vector of positions, and
the jitted step gathers its images (`take`). A Stream reads and decodes each batch. In
both, a training batch depends only on the seed and the step.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

from simclr_jax import devices
from simclr_jax.data.reader import Batch, Reader
from simclr_jax.data.resident import Resident, Source, filled, take

__all__ = ["Resident", "Source", "Stream", "make_source", "take"]

# Images decoded at a time while filling a Resident, and by `images`.
_LOAD_BATCH, _READ_BATCH = 1024, 256


@dataclasses.dataclass(frozen=True, eq=False)
class Stream(Source):
    """Images read and decoded when needed, into numpy batches.

    A batch is {"image": uint8 [B, H, W, C], "label": int32 [B], "index": int32 [B]},
    where "index" is the position in the stored split, also for a subset. At first use
    `labels` reads the whole split once, without decoding images.

    If several processes train, each decodes the rows of its own devices alone. The
    order is that of one process, and the arrays are jax's, of the whole batch.
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
        rows = devices.my_rows(batch_size)
        batches = self.reader.read(
            batch_size,
            keep=self.keep,
            shuffle=seed,
            start=first * batch_size,
            stop=self.num_examples // batch_size * batch_size,
            rows=rows,
        )
        if rows is None:
            return batches
        return (devices.join(batch, batch_size) for batch in batches)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        rows = devices.my_rows(batch_size)
        left = self.num_examples
        filler: Batch = {}
        for batch in self.reader.read(batch_size, keep=self.keep, rows=rows):
            mask = np.arange(batch_size) < left
            left -= batch_size
            if rows is None:
                filler = filler or {name: array[:1] for name, array in batch.items()}
                yield {**filled(batch, filler, batch_size), "mask": mask}
            else:
                # Of the last batch this process may have no image to copy.
                blank = {
                    name: np.zeros_like(array, shape=(1, *array.shape[1:]))
                    for name, array in batch.items()
                }
                whole = filled(batch, blank, rows.stop - rows.start)
                yield {**devices.join(whole, batch_size), "mask": mask}

    def images(self, indices: np.ndarray) -> np.ndarray:
        batches = self.reader.read(_READ_BATCH, keep=self._positions(indices))
        return np.concatenate([batch["image"] for batch in batches])

    def subset(self, indices: np.ndarray) -> Source:
        return make_source(
            self.reader,
            keep=self._positions(indices),
            device_limit_gb=self.device_limit_gb,
        )

    def _sampled(self, indices: np.ndarray) -> Source:
        return Stream(self.reader, self._positions(indices), self.device_limit_gb)

    def _positions(self, indices: np.ndarray) -> np.ndarray:
        """Where examples of this source lie in the reader's split."""
        kept = np.arange(self.num_examples) if self.keep is None else self.keep
        return kept[indices]


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
