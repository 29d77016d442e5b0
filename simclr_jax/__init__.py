"""Contrastive and self-supervised image pretraining in JAX.

The losses need nothing but jax: `from simclr_jax import nt_xent`.
"""

from simclr_jax.losses import (
    byol_regression,
    contrastive_accuracy,
    distillation,
    info_nce,
    nt_xent,
)

__version__ = "0.1.0"

__all__ = [
    "byol_regression",
    "contrastive_accuracy",
    "distillation",
    "info_nce",
    "nt_xent",
]
