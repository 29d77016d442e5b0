"""Nearest neighbours of features by their cosine."""

import jax
import jax.numpy as jnp
import numpy as np


def nearest(
    queries: np.ndarray, bank: np.ndarray, *, k: int, same: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the bank with the largest cosines to each query, nearest first.

    Args:
      queries: [Q, F].
      bank: [N, F].
      k: rows to return, K; fewer if the bank has fewer to compare with.
      same: bool [Q, N], at most one True in a row: pairs that show one image, which
        are left out.

    Returns:
      (cosines [Q, K], rows of the bank int [Q, K]).
    """
    k = min(k, len(bank) - (same is not None))
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, bank)]
    queries, bank = queries / (lengths[0] + 1e-12), bank / (lengths[1] + 1e-12)
    cosines = jnp.matmul(queries, bank.T, precision="highest")
    if same is not None:
        cosines = jnp.where(same, -jnp.inf, cosines)
    similarities, rows = jax.lax.top_k(cosines, k)
    return np.asarray(similarities), np.asarray(rows)
