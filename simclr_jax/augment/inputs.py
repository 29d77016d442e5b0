"""What the augmentation operations ask of their arguments, at trace time."""

import math

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
    """Images as float32 in [0, 1].

    Args:
      images: an array of any shape, uint8, or floats in [0, 1].

    Returns:
      The same shape: k/255 of uint8; floats keep their value.
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    raise ValueError(f"images must be uint8 or floating, got {images.dtype}")


def batch_of(images):
    """Images as float32, once they are known to be a batch."""
    if jnp.ndim(images) != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {jnp.shape(images)}")
    return to_float(images)


def where_chosen(chosen, changed, images):
    """Takes the images that are `chosen` [B] from `changed`."""
    return jnp.where(chosen[:, None, None, None], changed, images)


def require_probability(value):
    if not 0 <= value <= 1:
        raise ValueError(f"probability must be in [0, 1], got {value}")


def require_size(size):
    if not size >= 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")


def require_interval(name, interval, most=math.inf):
    low, high = interval
    if not 0 < low <= high <= most:
        limit = "" if most == math.inf else f" <= {most}"
        raise ValueError(f"{name} must be 0 < low <= high{limit}, got {interval}")


def require_colours(channels):
    if channels not in (1, 3):
        raise ValueError(f"colour operations need 1 or 3 channels, got {channels}")
