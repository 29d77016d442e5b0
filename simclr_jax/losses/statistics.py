"""Losses of a batch's statistics, without negatives: one value for the whole batch."""

import jax
import jax.numpy as jnp
from jax import Array

from simclr_jax.losses._checks import check_pair
from simclr_jax.losses._rows import similarities

_BATCHNORM_EPSILON = 1e-5  # torch.nn.BatchNorm1d's
_VICREG_EPSILON = 1e-4  # section 4.1


def barlow_twins(z_a: Array, z_b: Array, *, redundancy: float = 5e-3) -> Array:
    """Barlow Twins' loss: the views' cross-correlation should be the identity.

    `sum_i (c_ii - 1)^2 + redundancy sum_{i != j} c_ij^2`, equations 1 and 2 of
    arXiv:2103.03230. As in the authors' code, each dimension of each view is first
    normalised by its mean and its biased variance plus 1e-5, over the batch.

    Under plain `jit` the statistics of a batch sharded over devices are global. Inside
    `shard_map` or `pmap`, gather first and average after:
    `z_a, z_b = lax.all_gather((z_a, z_b), "data", tiled=True)`, then
    `lax.pmean(barlow_twins(z_a, z_b), "data")`.

    Args:
      z_a, z_b: [N, D] with N > 1, the two views; row i of both shows image i. Any
        scale; values above 1e17 overflow.
      redundancy: lambda, the weight of the terms off the diagonal.

    Returns:
      [], of the batch; D if all rows of a view are equal.

    Example:
      >>> z = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # uncorrelated
      >>> round(barlow_twins(z, z).item(), 6), round(barlow_twins(z, -z).item(), 3)
      (0.0, 8.0)
    """
    _check_batch(z_a, z_b)
    a, b = (_standardize(jnp.asarray(z, jnp.float32)) for z in (z_a, z_b))
    correlation = similarities(a.T, b.T) / len(a)
    on_diagonal = jnp.sum((jnp.diagonal(correlation) - 1.0) ** 2)
    return on_diagonal + redundancy * _off_diagonal(correlation)


def vicreg(
    z_a: Array,
    z_b: Array,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Array:
    """VICReg's loss: views agree, dimensions spread and do not repeat each other.

    Equations 1 to 6 of arXiv:2105.04906, as the authors' code weighs them:
    `invariance` times the mean squared difference over N and D, `variance` times the
    mean over dimensions and views of `max(0, 1 - sqrt(var + 1e-4))`, `covariance` times
    the sum over views of the squared covariances off the diagonal, over D. Variance and
    covariance divide by N - 1. The embeddings are not normalised.

    On several devices as `barlow_twins`.

    Args:
      z_a, z_b: [N, D] with N > 1, the two views; row i of both shows image i. Values
        above 1e7 overflow.
      invariance: lambda, weight of the difference between the views.
      variance: mu, weight of the spread.
      covariance: nu, weight of the redundancy.

    Returns:
      [], of the batch; 0.99 `variance` if all rows of both views are equal.

    Example:
      >>> z = jnp.ones((4, 3))  # collapsed
      >>> round(vicreg(z, z).item(), 4)
      24.75
    """
    _check_batch(z_a, z_b)
    a, b = (jnp.asarray(z, jnp.float32) for z in (z_a, z_b))
    difference = jnp.mean((a - b) ** 2)
    spread, redundancy = jnp.float32(0), jnp.float32(0)
    for z in (a, b):
        centred = z - jnp.mean(z, axis=0, keepdims=True)
        deviation = jnp.sqrt(_variance(centred, len(z) - 1) + _VICREG_EPSILON)
        spread += jnp.mean(jax.nn.relu(1.0 - deviation)) / 2
        matrix = similarities(centred.T, centred.T) / (len(z) - 1)
        redundancy += _off_diagonal(matrix) / z.shape[1]
    return invariance * difference + variance * spread + covariance * redundancy


def _standardize(z: Array) -> Array:
    """Each column [N, D] less its mean, over its standard deviation."""
    centred = z - jnp.mean(z, axis=0, keepdims=True)
    variance = _variance(centred, len(z))
    return centred * jax.lax.rsqrt(variance + _BATCHNORM_EPSILON)[None, :]


def _variance(centred: Array, count: int) -> Array:
    """[N, D] -> [D], the sum of squares over `count`."""
    return jnp.sum(centred * centred, axis=0) / count


def _off_diagonal(matrix: Array) -> Array:
    """[D, D] -> [], the sum of squares off the diagonal."""
    return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool), 0.0, matrix) ** 2)


def _check_batch(z_a: Array, z_b: Array) -> None:
    """ValueError unless both are [N, D], and have more than one row."""
    check_pair("z_a", z_a, "z_b", z_b)
    if len(z_a) < 2:
        shapes = f"{jnp.shape(z_a)} and {jnp.shape(z_b)}"
        raise ValueError(f"z_a and z_b must have at least 2 rows, got {shapes}")
