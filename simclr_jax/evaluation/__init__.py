"""What features are worth: accuracies, neighbours; arrays in, numbers out."""

from simclr_jax.evaluation.features import (
    accuracies,
    extract,
    knn,
    standardize,
    top_k,
)
from simclr_jax.evaluation.neighbours import nearest

__all__ = ["accuracies", "extract", "knn", "nearest", "standardize", "top_k"]
