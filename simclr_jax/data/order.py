"""Chooses examples and their order: pure functions of a seed and an epoch, in numpy.

Every training stage draws its batches here. A batch depends only on (seed, step), so a
resumed run needs no iterator state.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from simclr_jax.errors import DataError


def permuted(positions: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """The positions in the order drawn by this seed (a run's seed and the epoch)."""
    return positions[np.random.default_rng(seed).permutation(len(positions))]


def shuffled(
    count: int, batch_size: int, *, seed: tuple[int, ...], start: int = 0
) -> Iterator[np.ndarray]:
    """Endless training batches of positions, for a stage that batches its own arrays.

    The order is that of `batches` of a Resident with as many examples.

    Args:
      count: N, number of examples.
      batch_size: B, in 1..N.
      seed: non-negative integers.
      start: global step to begin at.

    Returns:
      An iterator of int32 [B].

    Raises:
      DataError: batch_size is not in 1..N.
    """
    check_batch_size(batch_size, count, "training images")
    positions = np.arange(count, dtype=np.int32)
    return endless(
        lambda epoch, first: slices(
            permuted(positions, (*seed, epoch)), batch_size, first
        ),
        start,
        count // batch_size,
    )


def slices(order: np.ndarray, batch_size: int, first: int) -> Iterator[np.ndarray]:
    """The full batches of an epoch's order, from number `first` on."""
    for number in range(first, len(order) // batch_size):
        yield order[number * batch_size : (number + 1) * batch_size]


def endless(
    epoch_batches: Callable[[int, int], Iterator[Any]], start: int, per_epoch: int
) -> Iterator[Any]:
    """Chains the epochs, `epoch_batches(epoch, first batch)`, from step `start` on."""
    epoch, first = divmod(start, per_epoch)
    while True:
        yield from epoch_batches(epoch, first)
        epoch, first = epoch + 1, 0


def check_batch_size(batch_size: int, count: int, what: str) -> None:
    """Raises DataError unless `batch_size` is in 1..`count`.

    Args:
      what: names the examples in the message, as "training images".
    """
    if batch_size < 1:
        raise DataError("batch_size", f"{batch_size} is not at least 1")
    if batch_size > count:
        raise DataError(
            "batch_size", f"{batch_size} is larger than the {count} {what}; lower it"
        )


def balanced_subset(
    labels: np.ndarray,
    fraction: float,
    *,
    seed: int | tuple[int, ...],
    num_classes: int,
) -> np.ndarray:
    """Draws the same number of labelled examples from every class.

    That number is round(fraction * labelled / classes), at least 1, where only classes
    that have an example count; a class with fewer gives all it has, and no other gives
    more for it. So the share drawn may differ from `fraction`: 28 of 60 for classes of
    50, 9 and 1 at 0.9. With the same seed, a smaller fraction draws a subset of what a
    larger one draws. A fraction of 1 keeps all labelled examples, balanced or not.

    Args:
      labels: int [N], -1 where unlabelled (never drawn).
      fraction: in (0, 1].
      seed: non-negative integer or integers.
      num_classes: classes 0..num_classes - 1.

    Returns:
      int [M] positions in labels, increasing.

    Raises:
      ValueError: fraction out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction} is not in (0, 1]")
    labelled = np.flatnonzero(labels >= 0)
    if fraction == 1:
        return labelled
    present = np.unique(labels[labelled])
    present = present[present < num_classes]
    count = max(1, round(fraction * len(labelled) / max(1, len(present))))
    rng = np.random.default_rng(seed)
    # Each class is permuted in full before it is cut, so smaller fractions nest.
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:count] for c in present]
    return np.sort(np.concatenate([labelled[:0], *drawn]))
