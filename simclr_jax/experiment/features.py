"""Features of a run's networks: each split goes through each network once."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from simclr_jax import data

# Every level's features [N, D], and the labels [N].
Features = tuple[dict[str, Any], np.ndarray]

# Features in host memory that kNN, probe and report share. CIFAR-10's by a ResNet-50
# take 1.2 GB. What does not fit, ImageNet's 10 GB for example, is computed again.
MOST_BYTES = 2_000_000_000


class Kept:
    """What was computed, with all levels, as long as it fits into `most_bytes`.

    Args:
      compute: `(params, model_state, source, levels) -> {level: NumPy [N, D]}`; levels
        None means all.
      embed: `(params, model_state) -> {level: [B, ...]}` of any B images. It is only
        traced, to find the levels' widths.
    """

    def __init__(
        self,
        compute: Callable[..., dict[str, np.ndarray]],
        embed: Callable[[Any, Any], dict[str, jax.Array]],
        most_bytes: int,
    ):
        self._compute, self._embed, self._most_bytes = compute, embed, most_bytes
        self._kept: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def split(
        self,
        key: tuple[str, str],
        network: tuple[Any, Any],
        source: data.Source,
        levels: tuple[str, ...] | None = None,
    ) -> Features:
        """The features of a whole split.

        Args:
          key: names the network and the split.
          network: `(params, model_state)`.
          source: the split's images.
          levels: the levels to return; None returns all.
        """
        if key not in self._kept and not self._fits(network, source):
            return self._compute(*network, source, levels), source.labels
        if key not in self._kept:
            self._kept[key] = self._compute(*network, source, None)
        found = self._kept[key]
        return {name: found[name] for name in levels or found}, source.labels

    def rows(
        self,
        key: tuple[str, str],
        network: tuple[Any, Any],
        source: data.Source,
        rows: np.ndarray,
        levels: tuple[str, ...] | None = None,
    ) -> Features:
        """Like `split`, of the images at increasing positions `rows`.

        Of a split that is not kept, only these images are computed.
        """
        if key not in self._kept:
            subset = source.subset(rows)
            return self._compute(*network, subset, levels), subset.labels
        found, labels = self.split(key, network, source, levels)
        return {name: x[rows] for name, x in found.items()}, labels[rows]

    def _fits(self, network: tuple[Any, Any], source: data.Source) -> bool:
        shapes = jax.eval_shape(self._embed, *network).values()
        row = sum(math.prod(x.shape[1:]) for x in shapes) * 4
        held = sum(x.nbytes for kept in self._kept.values() for x in kept.values())
        return held + source.num_examples * row <= self._most_bytes
