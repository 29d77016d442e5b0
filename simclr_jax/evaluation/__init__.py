"""What an encoder is worth: accuracies, nearest neighbours, features of a data set.

Takes arrays and callables, returns arrays and numbers. A label of -1 stands for "not
known": it is in no accuracy and in no vote.
"""

from simclr_jax.evaluation.accuracy import accuracies, top_k
from simclr_jax.evaluation.features import extract, standardize
from simclr_jax.evaluation.neighbours import knn, nearest

__all__ = ["accuracies", "extract", "knn", "nearest", "standardize", "top_k"]
