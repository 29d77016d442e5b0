"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): each dimension of the embedding
agrees between two views, and no two dimensions repeat each other. No negatives, no
predictor, no target network.
"""

from functools import partial

import flax.linen as nn

from simclr_jax import losses
from simclr_jax.methods import Method
from simclr_jax.methods._of_a_batch import of_a_batch
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
    objective = partial(losses.barlow_twins, redundancy=redundancy)
    return of_a_batch(Network(encoder, projector), objective, microbatch)
