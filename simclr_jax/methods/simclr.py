"""SimCLR (Chen et al. 2020, arXiv 2002.05709): tell each image's other view
from every other image of the batch. SimCLRv2 (arXiv 2006.10029) is the same loss
behind a deeper projector (`Projector(layers=3)`)."""

import flax.linen as nn
import jax

from simclr_jax import losses
from simclr_jax.methods import Method, _network

# From this many embeddings on, the [2N, 2N] similarities are computed by blocks:
# at 8,192 the matrix and its gradient take half a gigabyte.
_BLOCKS_FROM = 8192
_BLOCK_SIZE = 1024


def simclr(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    microbatch: int | None = None,
    temperature: float = 0.5,
) -> Method:
    """SimCLR: NT-Xent (equation 1) on the projections of two views.

    Both views pass the network in one batch of 2B, so BatchNorm normalises over
    both, as in the paper's code. Metrics: `contrastive_accuracy` (among at most
    1,024 pairs of the batch) and `embedding_std`, the spread of the normalised
    embeddings per dimension times sqrt(D): 1 when they fill the sphere evenly,
    0 when they have collapsed to a point.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`.
      microbatch: see `simclr_jax.methods.make`.
      temperature: of the loss; 0.5 is the paper's for CIFAR-10 (appendix B.9),
        0.1 its choice for ImageNet.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")

    def init(key, images):
        params, batch_stats = _network.init(key, encoder, projector, images)
        return params, {"batch_stats": batch_stats}

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # nothing here is drawn, nothing is remembered

        def apply(images, batch_stats):
            return _network.forward(encoder, projector, params, batch_stats, images)

        ((h, z_a), (_, z_b)), batch_stats = _network.encode(
            apply, views, model_state["batch_stats"], microbatch=microbatch
        )
        block_size = _BLOCK_SIZE if 2 * len(z_a) > _BLOCKS_FROM else None
        value = losses.nt_xent(
            z_a, z_b, temperature=temperature, block_size=block_size
        ).mean()
        metrics = _network.gauges(z_a, z_b)
        if features:
            metrics["h"] = jax.lax.stop_gradient(h)
        return value, (model_state | {"batch_stats": batch_stats}, metrics)

    def update(params, model_state, progress):
        del params, progress
        return model_state

    def embed(params, model_state, images):
        return _network.embed(
            encoder, projector, params, model_state["batch_stats"], images
        )

    return Method(init, loss, update, embed)
