"""The objectives, as pure functions of embeddings. This folder imports jax only.

Every loss takes rows of any float type, computes in float32, and returns one
float32 value per anchor: take `.mean()` before `jax.grad`. Only `barlow_twins` and
`vicreg` are of the batch and return one value. All except `distillation` and `vicreg`
normalise the embeddings. Wrong shapes and a temperature that is not positive and finite
raise a ValueError at trace time; the value of a traced temperature is not checked.

Rows may have any finite length: one longer than 1e-6 counts by its direction alone, a
shorter one is drawn towards zero (`l2_normalize`). `barlow_twins` and `vicreg` name
their own limits. An infinity or a NaN gives NaN; only `distillation` takes -inf, a
class that is ruled out.

On a CPU, call `simclr_jax.set_cpu_flags()` before jax uses a device: XLA then trains
the network around a loss with the fusions that the command uses
(docs/performance.md, "Speed on a CPU").
"""

from simclr_jax.losses._checks import Scalar
from simclr_jax.losses._rows import l2_normalize
from simclr_jax.losses.contrastive import (
    DECOUPLED,
    contrastive_accuracy,
    info_nce,
    nt_xent,
)
from simclr_jax.losses.regression import byol_regression, distillation
from simclr_jax.losses.statistics import barlow_twins, vicreg

__all__ = [
    "DECOUPLED",
    "Scalar",
    "barlow_twins",
    "byol_regression",
    "contrastive_accuracy",
    "distillation",
    "info_nce",
    "l2_normalize",
    "nt_xent",
    "vicreg",
]
