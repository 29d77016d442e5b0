"""Scores of features without labels: how far they spread. NumPy, in float64."""

import jax
import numpy as np

Array = jax.Array | np.ndarray


def rankme(features: Array, *, eps: float = 1e-7) -> float:
    """The effective rank of features: how many directions they use.

    It is the exponential of the entropy of their singular values, which are scaled to
    sum 1. The features are not centred.

    Args:
      features: [N, D].
      eps: added to each scaled singular value; 1e-7 as in the paper, for float32.

    Returns:
      About 1 (all rows are multiples of one) to about min(N, D) (orthogonal rows of one
      length). NaN if a feature is not finite, or all are 0.

    Raises:
      ValueError: the features are no matrix, or have no rows.

    Example:
      >>> round(rankme(np.eye(5)), 3)
      5.0

    References:
      Garrido et al., RankMe, 2023 (arXiv 2210.02885), equation 1.
    """
    x = _rows(features)
    if not (np.isfinite(x).all() and x.any()):
        return float("nan")
    x = x / np.abs(x).max()
    # Much faster than to decompose x. In float64 the values are off by about 1e-8 of
    # the largest, which is less than eps.
    squares = np.linalg.eigvalsh(x.T @ x if x.shape[0] > x.shape[1] else x @ x.T)
    values = np.sqrt(squares.clip(0))
    shares = values / values.sum() + eps
    return float(np.exp(-(shares * np.log(shares)).sum()))


def alignment(x: Array, y: Array, *, alpha: float = 2.0) -> float:
    """The mean distance between the embeddings of two views, on the unit sphere.

    Args:
      x: embeddings [N, D]; need not be normalised.
      y: those of the other views of the same images, [N, D].
      alpha: the power of each distance.

    Returns:
      0 (the views agree) to 2 ** alpha (they are opposite).

    Raises:
      ValueError: the shapes differ, or there are no rows.

    Example:
      >>> alignment(np.array([[1.0, 0.0]]), np.array([[0.0, 3.0]]))
      2.0

    References:
      Wang and Isola, Understanding contrastive representation learning through
      alignment and uniformity on the hypersphere, 2020 (arXiv 2005.10242), section 4.1.
    """
    x, y = _on_sphere(x), _on_sphere(y)
    if x.shape != y.shape:
        raise ValueError(f"need x and y [N, D]: {x.shape}, {y.shape}")
    return float((np.linalg.norm(x - y, axis=1) ** alpha).mean())


def uniformity(x: Array, *, t: float = 2.0) -> float:
    """How evenly embeddings cover the unit sphere: lower is more even.

    It is the logarithm of the mean of exp(-t d^2) over all pairs of rows, where d is
    their distance. Takes the memory of one [N, N] matrix.

    Args:
      x: embeddings [N, D] of different images; need not be normalised.
      t: greater than 0.

    Returns:
      0 (all at one point) or less: -4 t for two opposite points, about -2 t for points
      at random on a sphere of many dimensions.

    Raises:
      ValueError: there are fewer than two rows.

    Example:
      >>> uniformity(np.array([[1.0, 0.0], [0.0, 3.0]]))
      -4.0

    References:
      Wang and Isola, 2020, section 4.1; see `alignment`.
    """
    x = _on_sphere(x)
    if len(x) < 2:
        raise ValueError(f"need two rows or more: {x.shape}")
    lengths = (x * x).sum(1)
    distances = (lengths[:, None] + lengths - 2 * x @ x.T).clip(0)
    pairs = distances[np.triu_indices(len(x), 1)]
    return float(np.log(np.exp(-t * pairs).mean()))


def _rows(features: Array) -> np.ndarray:
    """As float64 [N, D], N at least 1."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"need features [N, D]: {x.shape}")
    return x


def _on_sphere(features: Array) -> np.ndarray:
    """Rows of length 1; zero rows stay zero."""
    x = _rows(features)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # of features that are not finite: NaN
        return x / np.where(lengths > 0, lengths, 1)
