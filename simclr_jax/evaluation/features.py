"""Computes the features of a data set, batch by batch, and standardises them."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np


def extract(
    embed: Callable[[dict[str, Any]], dict[str, jax.Array]],
    batches: Iterable[dict[str, Any]],
    levels: Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """Embeds a data set, in order and without the padding of its batches.

    Args:
      embed: batch -> {level: [B, D]}; jitted by the caller.
      batches: dicts with "mask" (bool [B], false for padding) and what `embed` needs.
      levels: the levels to return; None returns all.

    Returns:
      {level: float32 [N, D]}.

    Raises:
      ValueError: there are no batches.

    Example:
      >>> batch = {"image": np.ones([2, 3]), "mask": np.array([True, False])}
      >>> extract(lambda batch: {"h": 2 * batch["image"]}, [batch])
      {'h': array([[2., 2., 2.]], dtype=float32)}
    """
    levels = None if levels is None else tuple(levels)
    parts: list[dict[str, np.ndarray]] = []
    in_flight: deque = deque()

    def collect() -> None:
        outputs, mask = in_flight.popleft()
        parts.append(
            {name: np.asarray(x, np.float32)[mask] for name, x in outputs.items()}
        )

    for batch in batches:
        mask, outputs = np.asarray(batch["mask"]), embed(batch)
        if levels is not None:
            outputs = {name: outputs[name] for name in levels}
        jax.copy_to_host_async(outputs)
        in_flight.append((outputs, mask))
        # The device computes one batch while we wait for the one before.
        if len(in_flight) > 1:
            collect()
    while in_flight:
        collect()
    if not parts:
        raise ValueError("there are no batches to embed")
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and scales each feature to mean 0 and standard deviation 1 on `train`.

    Args:
      train: [N, D]; its means and deviations are used for both.
      test: [M, D].

    Returns:
      (train, test), float32. A feature that is constant on `train` becomes 0 there.
    """
    # Only the sums are float64, because the arrays may fill most of the memory.
    mean = train.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    centred, test = train - mean, test - mean
    variance = np.einsum("nd,nd->d", centred, centred, dtype=np.float64) / len(train)
    scale = (np.sqrt(variance) + 1e-6).astype(np.float32)[None]
    centred /= scale
    test /= scale
    return centred, test
