"""VICReg (Bardes et al. 2022, arXiv 2105.04906): two views agree, every dimension of
the embedding spreads, and no two dimensions repeat each other. No negatives, no
predictor, no target network.
"""

import flax.linen as nn
import jax

from simclr_jax import losses
from simclr_jax.methods import Method, embedding_metrics
from simclr_jax.microbatches import encode_each
from simclr_jax.networks import Network


def vicreg(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    microbatch: int | None = None,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Method:
    """VICReg: invariance, variance and covariance (equations 1 to 6).

    Each view is normalised by itself, as in the authors' code. The embeddings of all
    micro-batches meet in one loss, so its statistics are those of the whole batch; only
    BatchNorm's are a micro-batch's. On several devices both are global. Metrics: those
    of `methods.embedding_metrics`, neither of which the loss optimises.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`. The paper's is
        `Projector(layers=3, hidden=8192, dim=8192, last_norm=False)`.
      microbatch: see `simclr_jax.methods.make`.
      invariance: lambda, the weight of the difference between the views.
      variance: mu, the weight of the spread of each dimension.
      covariance: nu, the weight of what dimensions have in common.
    """
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    if min(weights.values()) < 0:
        raise ValueError(f"no weight may be negative, got {weights}")
    network = Network(encoder, projector)

    def init(key, images):
        params, batch_stats = network.init(key, images)
        return params, {"batch_stats": batch_stats}

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # VICReg draws nothing and remembers no image

        def apply(batch_stats, images):
            return network.train(params, batch_stats, images)

        ((h, z_a), (_, z_b)), batch_stats = encode_each(
            apply, model_state["batch_stats"], views, microbatch=microbatch
        )
        value = losses.vicreg(z_a, z_b, **weights)
        metrics = embedding_metrics(z_a, z_b)
        metrics |= {"h": jax.lax.stop_gradient(h)} if features else {}
        return value, (model_state | {"batch_stats": batch_stats}, metrics)

    def update(params, model_state, progress):
        del params, progress
        return model_state

    return Method(init, loss, update, network.embed_state)
