"""The losses in float64 NumPy, as their papers write them.

float64 has the range to need no trick where float32 would overflow. The documented rule
for short rows is part of it: `x / sqrt(max(sum(x^2), 1e-12))`.
"""

import numpy as np

from simclr_jax.losses import byol_regression, info_nce, nt_xent


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.sqrt(np.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def log_sum_exp(x):
    shift = x.max(1, keepdims=True)
    return (shift + np.log(np.exp(x - shift).sum(1, keepdims=True)))[:, 0]


def nt_xent_64(z_a, z_b, t=0.5):
    z = np.concatenate([unit(z_a), unit(z_b)])
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    positive = (unit(z_a) * unit(z_b)).sum(1) / t
    return log_sum_exp(logits) - np.tile(positive, 2)


def info_nce_64(q, k, t=0.2):
    logits = unit(q) @ unit(k).T / t
    return log_sum_exp(logits) - np.diag(logits)


def byol_64(p, k):
    return 2 - 2 * (unit(p) * unit(k)).sum(1)


def distillation_64(student, teacher, t):
    """Cross-entropy; 0 log 0 is 0."""
    s, k = (np.asarray(x, np.float64) / t for x in (student, teacher))
    # Shifted, because float64 holds 1e16 and log(3), but not their sum.
    s, k = (x - x.max(1, keepdims=True) for x in (s, k))
    log_q = s - log_sum_exp(s)[:, None]
    p = np.exp(k - log_sum_exp(k)[:, None])
    with np.errstate(invalid="ignore"):
        return -np.where(p == 0, 0, p * log_q).sum(1)


ORACLES = {
    "nt_xent": (nt_xent, nt_xent_64),
    "nt_xent in blocks": (lambda a, b: nt_xent(a, b, block_size=5), nt_xent_64),
    "info_nce": (info_nce, info_nce_64),
    "byol_regression": (byol_regression, byol_64),
}
