"""Heads on top of an encoder: projector (h to z), BYOL's predictor, classifier.

    z = Projector(layers=3)(h, train)                  # SimCLRv2's, to the loss
    head_1 = Projector(layers=3)(h, train, upto=1)     # to fine-tune from the middle

The levels are called h, head_1, head_2, ..., z, here and in the probe's results. The
heads compute in float32 whatever the encoder's type: they are small and close to the
loss. BatchNorm is the encoder's (decay 0.9, epsilon 1e-5).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax

ACTIVATIONS = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.01),
    "gelu": partial(nn.gelu, approximate=False),
    "identity": lambda x: x,
}


def _norm(train: bool, name: str, **options: Any) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name, **options
    )


class Projector(nn.Module):
    """The MLP between h and the contrastive loss.

    Layer j is dense_j, bn_j, activation. The last layer has no activation, and its
    BatchNorm has a scale but no bias, as in google-research/simclr `model_util.py`
    (`projection_head`) for every number of layers. SimCLR has 2 layers, SimCLRv2 3.

    Args:
      layers: 0 is the identity (z = h), 1 a linear head.
      hidden: width of all layers but the last; None is the width of h.
      dim: width of z.
      activation: "relu", "tanh", "leaky_relu" (slope 0.01 below 0), "gelu" (with erf,
        not its approximation) or "identity" (a linear head of several layers).
      norm: False leaves BatchNorm out and gives every dense layer a bias (MoCo v2).
      last_norm: False leaves BatchNorm out of the last layer, which then has no bias
        (BYOL).

    Example:
      >>> import jax.numpy as jnp
      >>> projector, h = Projector(layers=3, dim=16), jnp.ones([4, 32])
      >>> variables = projector.init(jax.random.key(0), h, train=False)
      >>> projector.apply(variables, h, train=False).shape
      (4, 16)
      >>> levels = projector.apply(variables, h, train=False, method="levels")
      >>> {name: x.shape for name, x in levels.items()}
      {'h': (4, 32), 'head_1': (4, 32), 'head_2': (4, 32), 'z': (4, 16)}
    """

    layers: int = 2
    hidden: int | None = None
    dim: int = 128
    activation: str = "relu"
    norm: bool = True
    last_norm: bool = True

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"layers must be 0 or more, got {self.layers}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} is unknown; "
                f"choose from {list(ACTIVATIONS)}"
            )
        super().__post_init__()

    def __call__(self, h: jax.Array, train: bool, upto: int | None = None) -> jax.Array:
        """Projects h, or stops on the way.

        Args:
          h: [B, F].
          train: whether BatchNorm normalises by the batch and updates its running
            statistics.
          upto: the layer whose output to return, from 0 (h itself) to `layers` (z).
            Layers above it are not used and need no parameters (see `keep_layers`).
            None: z.

        Returns:
          [B, dim] for z, [B, hidden] for a layer below it.
        """
        return list(self.levels(h, train, upto).values())[-1]

    @nn.compact
    def levels(
        self, h: jax.Array, train: bool, upto: int | None = None
    ) -> dict[str, jax.Array]:
        """All levels in one pass: {"h", "head_1", ..., "z"}, in this order.

        With `upto` below `layers` the levels above it are left out.
        """
        if h.ndim != 2:
            raise ValueError(f"h must be [B, F], got {h.shape}")
        stop = self.layers if upto is None else upto
        if not 0 <= stop <= self.layers:
            raise ValueError(f"upto must be 0 to {self.layers} (layers), got {upto}")

        levels = {"h": h}
        x = h
        for j in range(1, stop + 1):
            last = j == self.layers
            width = self.dim if last else self.hidden or h.shape[-1]
            x = nn.Dense(width, use_bias=not self.norm, name=f"dense_{j}")(x)
            if self.norm and (self.last_norm or not last):
                x = _norm(train, f"bn_{j}", use_bias=not last)(x)
            if not last:
                x = ACTIVATIONS[self.activation](x)
                levels[f"head_{j}"] = x
        if stop == self.layers:
            levels["z"] = x
        return levels


def level_names(layers: int) -> list[str]:
    """The levels of a projector with `layers` layers, starting at the encoder.

    Example:
      >>> level_names(3)
      ['h', 'head_1', 'head_2', 'z']
    """
    return ["h", *(f"head_{j}" for j in range(1, layers)), "z"]


def keep_layers(tree: Mapping[str, Any], upto: int) -> dict[str, Any]:
    """Drops the projector's layers above `upto`, for fine-tuning from that level.

    Args:
      tree: the projector's params or its batch_stats: {"dense_1", "bn_1", ...}.
      upto: the last layer to keep; 0 keeps none.

    Returns:
      A new dict with the entries of layers 1 to upto.

    Example:
      >>> keep_layers({"dense_1": 1, "bn_1": 2, "dense_2": 3, "bn_2": 4}, 1)
      {'dense_1': 1, 'bn_1': 2}
    """
    if upto < 0:
        raise ValueError(f"upto must be 0 or more, got {upto}")
    return {k: v for k, v in tree.items() if int(k.rsplit("_", 1)[-1]) <= upto}


class Predictor(nn.Module):
    """BYOL's predictor (arXiv 2006.07733): Dense, BatchNorm, ReLU, Dense without bias.

    The first layer has no bias either, because its BatchNorm would cancel it.

    Args:
      hidden: width of the first layer.
      dim: width of the prediction; None is the width of z.
    """

    hidden: int = 4096
    dim: int | None = None

    @nn.compact
    def __call__(self, z: jax.Array, train: bool) -> jax.Array:
        """z [B, D] -> prediction [B, dim or D]."""
        x = nn.Dense(self.hidden, use_bias=False, name="dense_1")(z)
        x = nn.relu(_norm(train, "bn_1")(x))
        dim = self.dim or z.shape[-1]
        return nn.Dense(dim, use_bias=False, name="dense_2")(x)


class Classifier(nn.Module):
    """A linear layer from features to logits.

    It starts at zero, so its first predictions are uniform, as in SimCLRv2's
    fine-tuning (google-research/simclr, README: `zero_init_logits_layer`).

    Args:
      num_classes: the number of logits.
    """

    num_classes: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """features [B, F] -> logits [B, num_classes]."""
        return nn.Dense(
            self.num_classes, kernel_init=nn.initializers.zeros, name="dense"
        )(features)
