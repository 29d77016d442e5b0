"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): each dimension of the embedding
agrees between two views, and no two dimensions repeat each other. No negatives, no
predictor, no target network.
"""

import flax.linen as nn
import jax

from simclr_jax import losses
from simclr_jax.methods import Method, embedding_metrics
from simclr_jax.microbatches import encode_each
from simclr_jax.networks import Network


def barlow_twins(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    microbatch: int | None = None,
    redundancy: float = 5e-3,
) -> Method:
    """Barlow Twins: the cross-correlation of two views should be the identity.

    Each view is normalised by itself, as in the authors' code. The embeddings of all
    micro-batches meet in one loss, so its statistics are those of the whole batch; only
    BatchNorm's are a micro-batch's. On several devices both are global. Metrics: those
    of `methods.embedding_metrics`, neither of which the loss optimises.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`. Wide ones do best in
        the paper: `Projector(layers=3, hidden=8192, dim=8192, last_norm=False)`.
      microbatch: see `simclr_jax.methods.make`.
      redundancy: lambda, the weight of the terms off the diagonal.
    """
    if redundancy < 0:
        raise ValueError(f"redundancy must not be negative, got {redundancy}")
    network = Network(encoder, projector)

    def init(key, images):
        params, batch_stats = network.init(key, images)
        return params, {"batch_stats": batch_stats}

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # Barlow Twins draws nothing and remembers no image

        def apply(batch_stats, images):
            return network.train(params, batch_stats, images)

        ((h, z_a), (_, z_b)), batch_stats = encode_each(
            apply, model_state["batch_stats"], views, microbatch=microbatch
        )
        value = losses.barlow_twins(z_a, z_b, redundancy=redundancy)
        metrics = embedding_metrics(z_a, z_b)
        metrics |= {"h": jax.lax.stop_gradient(h)} if features else {}
        return value, (model_state | {"batch_stats": batch_stats}, metrics)

    def update(params, model_state, progress):
        del params, progress
        return model_state

    return Method(init, loss, update, network.embed_state)
