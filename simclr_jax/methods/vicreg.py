"""VICReg (Bardes et al. 2022, arXiv 2105.04906): two views agree, every dimension of
the embedding spreads, and no two dimensions repeat each other. No negatives, no
predictor, no target network.
"""

from functools import partial

import flax.linen as nn

from simclr_jax import losses
from simclr_jax.methods import Method
from simclr_jax.methods._of_a_batch import of_a_batch
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
    objective = partial(losses.vicreg, **weights)
    return of_a_batch(Network(encoder, projector), objective, microbatch)
