"""The rows of a batch that one process reads; `devices.my_rows` says which."""

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from simclr_jax.data.reader import Batch


def in_rows(order: np.ndarray, batch_size: int, rows: slice) -> np.ndarray:
    """The part of an order that lies in these rows of its batches.

    Args:
      order: [N], read in batches of `batch_size`; the last one may be smaller.
      rows: slice(first, last) of a batch.

    Example:
      >>> in_rows(np.arange(10), 4, slice(2, 4))
      array([2, 3, 6, 7])
    """
    row = np.arange(len(order)) % batch_size
    return order[(row >= rows.start) & (row < rows.stop)]


def filtered(dataset: Any, batch_size: int, rows: slice) -> Any:
    """The same part of a tf.data pipeline of examples that are not yet in batches."""
    if rows.stop - rows.start == batch_size:
        return dataset

    def mine(number: Any, _: Any) -> Any:
        row = number % batch_size
        return (row >= rows.start) & (row < rows.stop)

    return dataset.enumerate().filter(mine).map(lambda _, example: example)


def completed(
    batches: Iterator[Batch], count: int, image_shape: tuple[int, int, int]
) -> Iterator[Batch]:
    """`count` batches: those given, then empty ones.

    The last batch of a pass may have none of the rows that a process reads. The process
    needs it all the same, because all processes compute the same number of batches.
    """
    given = 0
    for batch in batches:
        given += 1
        yield batch
    empty = {
        "image": np.zeros((0, *image_shape), np.uint8),
        "label": np.zeros(0, np.int32),
        "index": np.zeros(0, np.int32),
    }
    yield from repeat(empty, count - given)
