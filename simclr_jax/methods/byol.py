"""BYOL (Grill et al. 2020, arXiv 2006.07733): predict, from one view, how a slowly
moving average of the same network sees the other view. No negatives.

The target network gets no gradient. It runs BatchNorm in training mode and keeps its
own running statistics, which are not averages of the trained network's. Both networks
normalise each view separately; the running statistics take one update per step, the
mean over views.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from simclr_jax.heads import Predictor
from simclr_jax.losses import byol_regression
from simclr_jax.methods import Method, embedding_metrics
from simclr_jax.microbatches import encode_each
from simclr_jax.networks import (
    Network,
    apply_module,
    init_module,
    update_target,
    variables,
)

TARGET_INITS = ("online", "random")


def byol(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    predictor: nn.Module | None = None,
    microbatch: int | None = None,
    momentum: float = 0.996,
    target_init: str = "online",
) -> Method:
    """BYOL: the regression loss, summed over both directions (equation 2).

    Metrics: `embedding_std` of the projections, which falls to 0 when BYOL fails, and
    `contrastive_accuracy`, which the loss does not optimise.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`. The paper's is
        `Projector(hidden=4096, dim=256, last_norm=False)`.
      predictor: `predictor(z, train) -> [B, D]`; default `Predictor()`.
      microbatch: see `simclr_jax.methods.make`.
      momentum: tau_base: the target's momentum rises from it to 1 along half a cosine.
        The default is the paper's for 1,000 epochs; it is 0.99 for 100 and 300, 0.97
        for 40. At 1 the target never changes.
      target_init: "online": the target starts as a copy of the network. "random": it
        starts from other random weights.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
    if target_init not in TARGET_INITS:
        raise ValueError(
            f"target_init must be one of {TARGET_INITS}, got {target_init!r}"
        )
    head = Predictor() if predictor is None else predictor
    copied = target_init == "online"
    byol = _BYOL(Network(encoder, projector), head, momentum, copied, microbatch)
    return Method(byol.init, byol.loss, byol.update, byol.network.embed_state)


class _BYOL(NamedTuple):
    """The functions of a `Method`; the fields hold the options."""

    network: Network
    predictor: nn.Module
    momentum: float
    copied: bool  # the target starts as a copy of the network
    microbatch: int | None

    def init(self, key, images):
        key_network, key_head, key_target = jax.random.split(key, 3)
        params, batch_stats = start = self.network.init(key_network, images)
        target_start = start if self.copied else self.network.init(key_target, images)
        target = dict(zip(("params", "batch_stats"), target_start, strict=True))
        z = self.network.embed(params, batch_stats, images)["z"]
        _, weights, stats = init_module(key_head, self.predictor, z)
        params = params | {"predictor": weights}
        batch_stats = batch_stats | {"predictor": stats}
        return params, {"batch_stats": batch_stats, "target": target}

    def loss(self, params, model_state, key, views, index=None, features=False):
        del key, index  # BYOL draws nothing and remembers no image
        target = model_state["target"]

        def encode(apply, batch_stats):
            return encode_each(apply, batch_stats, views, microbatch=self.microbatch)

        ((h, z_a, p_a), (_, z_b, p_b)), batch_stats = encode(
            partial(self.predict, params), model_state["batch_stats"]
        )
        (t_a, t_b), target_stats = encode(
            partial(self.project, target["params"]), target["batch_stats"]
        )
        t_a, t_b = jax.lax.stop_gradient((t_a, t_b))
        both = byol_regression(p_a, t_b) + byol_regression(p_b, t_a)

        metrics = embedding_metrics(z_a, z_b)
        if features:
            metrics["h"] = jax.lax.stop_gradient(h)
        target = target | {"batch_stats": target_stats}
        new_state = model_state | {"batch_stats": batch_stats, "target": target}
        return both.mean(), (new_state, metrics)

    def predict(self, params, batch_stats, images):
        """Training mode: `((h [B, F], z [B, D], prediction [B, D]), new stats)`."""
        (h, z), stats = self.network.train(params, batch_stats, images)
        head = variables(params, batch_stats, "predictor")
        prediction, head_stats = apply_module(self.predictor, head, z, train=True)
        return (h, z, prediction), stats | {"predictor": head_stats}

    def project(self, params, batch_stats, images):
        """The target, in training mode: `(z [B, D], new stats)`."""
        (_, z), batch_stats = self.network.train(params, batch_stats, images)
        return z, batch_stats

    def update(self, params, model_state, progress):
        rise = (jnp.cos(jnp.pi * progress) + 1) / 2
        return update_target(params, model_state, 1 - (1 - self.momentum) * rise)
