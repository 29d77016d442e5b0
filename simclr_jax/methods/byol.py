"""BYOL (Grill et al. 2020, arXiv 2006.07733): predict, from one view, how a slowly
moving average of the same network sees the other view. No negatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from simclr_jax import losses
from simclr_jax import networks as _network
from simclr_jax.heads import Predictor
from simclr_jax.methods import Method

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
    """BYOL: the regression of both directions, added (equation 2).

    The target network gets no gradient. It runs BatchNorm in training mode and keeps
    running statistics of its own, which are not averaged. Each view is normalised by
    itself, in both networks; the running statistics take one update in a step, the
    mean over views.

    Metrics: `embedding_std` of the projections, whose fall to 0 is BYOL's way to fail,
    and `contrastive_accuracy`, which nothing here optimises.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`. The paper's is
        `Projector(hidden=4096, dim=256, last_norm=False)`.
      predictor: `predictor(z, train) -> [B, D]`; default `Predictor()`.
      microbatch: see `simclr_jax.methods.make`.
      momentum: tau_base; the average's momentum rises from it to 1 along half a cosine.
        The paper's for 1,000 epochs; 0.99 for 100 and 300, 0.97 for 40. 1 leaves
        the target as it began.
      target_init: "online": the target begins as a copy. "random": from weights of its
        own.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
    if target_init not in TARGET_INITS:
        raise ValueError(f"target_init must be one of {TARGET_INITS}")
    head = Predictor() if predictor is None else predictor

    def init(key, images):
        key_network, key_head, key_target = jax.random.split(key, 3)
        params, batch_stats = _network.init(key_network, encoder, projector, images)
        own = target_init == "random"
        target, target_stats = (
            _network.init(key_target, encoder, projector, images)
            if own
            else (params, batch_stats)
        )
        z = _network.embed(encoder, projector, params, batch_stats, images)["z"]
        variables = head.init(key_head, z, train=False)
        params = params | {"predictor": variables["params"]}
        batch_stats = batch_stats | {"predictor": variables.get("batch_stats", {})}
        return params, {
            "batch_stats": batch_stats,
            "target": {"params": target, "batch_stats": target_stats},
        }

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # nothing here is drawn, nothing is remembered
        target = model_state["target"]

        def online(images, batch_stats):
            (h, z), stats = _network.forward(
                encoder, projector, params, batch_stats, images
            )
            prediction, stats["predictor"] = _network.run_part(
                head, params, batch_stats, "predictor", z
            )
            return (h, z, prediction), stats

        def average(images, batch_stats):
            (_, z), stats = _network.forward(
                encoder, projector, target["params"], batch_stats, images
            )
            return z, stats

        def encode(apply, batch_stats):
            apply = _network.in_groups(apply, len(views))  # one for each view
            return _network.encode(apply, views, batch_stats, microbatch=microbatch)

        ((h, z_a, p_a), (_, z_b, p_b)), batch_stats = encode(
            online, model_state["batch_stats"]
        )
        (t_a, t_b), target_stats = encode(average, target["batch_stats"])
        t_a, t_b = jax.lax.stop_gradient((t_a, t_b))
        both = losses.byol_regression(p_a, t_b) + losses.byol_regression(p_b, t_a)

        metrics = _network.gauges(z_a, z_b)
        if features:
            metrics["h"] = jax.lax.stop_gradient(h)
        new_state = {
            "batch_stats": batch_stats,
            "target": target | {"batch_stats": target_stats},
        }
        return both.mean(), (model_state | new_state, metrics)

    def update(params, model_state, progress):
        tau = 1 - (1 - momentum) * (jnp.cos(jnp.pi * progress) + 1) / 2
        return _network.follow(params, model_state, tau)

    def embed(params, model_state, images):
        return _network.embed(
            encoder, projector, params, model_state["batch_stats"], images
        )

    return Method(init, loss, update, embed)
