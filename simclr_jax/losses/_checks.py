"""What the losses take: shapes and temperatures, checked when they are traced."""

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from simclr_jax.losses._rows import l2_normalize

Scalar = float | Array


def check_pair(name: str, x: Array, other_name: str, other: Array) -> None:
    """ValueError unless both have the same shape [N, D] with N, D >= 1."""
    shape, other_shape = jnp.shape(x), jnp.shape(other)
    if len(shape) != 2 or 0 in shape or shape != other_shape:
        raise ValueError(
            f"{name} and {other_name} must have the same shape [N, D] with N, D >= 1, "
            f"got {shape} and {other_shape}"
        )


def normalize_negatives(negatives: Array, name: str, rows: Array) -> Array:
    """`l2_normalize(negatives)`; ValueError unless they are [K, D] with the rows' D."""
    if jnp.ndim(negatives) != 2 or jnp.shape(negatives)[1] != rows.shape[1]:
        shapes = f"negatives {jnp.shape(negatives)} and {name} {rows.shape}"
        raise ValueError(f"negatives must be [K, D] with {name}'s D, got {shapes}")
    return l2_normalize(negatives)


def check_scalar(name: str, value: Scalar) -> Array:
    """A temperature or the like as float32.

    Raises:
      ValueError: it is known, and not a positive, finite and normal number in float32.
    """
    if jnp.ndim(value):
        raise ValueError(f"{name} must be a scalar, got {jnp.shape(value)}")
    limits = jnp.finfo(jnp.float32)
    low, high = float(limits.tiny), float(limits.max)
    if not isinstance(value, Tracer) and not low <= float(value) <= high:
        raise ValueError(
            f"{name} must be positive and finite in float32, "
            f"{low:.3g} to {high:.3g}, got {value}"
        )
    return jnp.asarray(value, jnp.float32)
