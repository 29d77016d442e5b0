"""Evaluates an encoder: accuracies, nearest neighbours, spread, features.

Takes arrays and callables, returns arrays and numbers. A label of -1 means "unknown";
accuracies and votes leave it out.
"""

from simclr_jax.evaluation.accuracy import accuracies, top_k
from simclr_jax.evaluation.calibration import calibrate
from simclr_jax.evaluation.features import extract, standardize
from simclr_jax.evaluation.neighbours import knn, nearest
from simclr_jax.evaluation.spread import alignment, rankme, uniformity

__all__ = [
    "accuracies",
    "alignment",
    "calibrate",
    "extract",
    "knn",
    "nearest",
    "rankme",
    "standardize",
    "top_k",
    "uniformity",
]
