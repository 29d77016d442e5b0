"""What the operations share: checks of their arguments, random draws, resampling.

Checks raise ValueError at trace time. Draws are U(0, 1) arrays, one per image.
"""

import math

import jax
import jax.numpy as jnp
from jax.core import Tracer

Interval = tuple[float, float]

# Otherwise GPUs round the pixels in a product to the 10 bits of TF32.
PRECISION = jax.lax.Precision.HIGHEST
# What moves the pixels of a random view may round so. At 224 pixels on an NVIDIA H200
# the error was 0.03 of the 255 grey levels on average and 0.3 at most, and the products
# took less than half the time.
_RESAMPLE_PRECISION = jax.lax.Precision.HIGH


def to_float(images: jax.Array) -> jax.Array:
    """Images as float32 in [0, 1].

    Args:
      images: an array of any shape, uint8, or floats in [0, 1].

    Returns:
      The same shape: k/255 of uint8; floats keep their value.

    Raises:
      ValueError: another type; or, outside jit, where values are known, floats outside
        [-0.5, 1.5], which are no resized image that overshoots a little: those of 0 to
        255, and those with mean 0. Inside jit only the type is known, and a view clips
        such values to [0, 1].

    Example:
      >>> to_float(jnp.array([0, 255], jnp.uint8)).tolist()
      [0.0, 1.0]
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if jnp.issubdtype(images.dtype, jnp.floating):
        _require_unit_range(images)
        return images.astype(jnp.float32)
    raise ValueError(f"images must be uint8 or floating, got {images.dtype}")


def _require_unit_range(images: jax.Array) -> None:
    """ValueError if the values are known and far outside [0, 1], or NaN."""
    if isinstance(images, Tracer) or not images.size:
        return
    with jax.ensure_compile_time_eval():
        low, high = float(images.min()), float(images.max())
    if not -0.5 <= low <= high <= 1.5:
        raise ValueError(
            f"floating images must be in [0, 1], got values from {low:g} to {high:g}; "
            "divide those of 0 to 255 by 255, or pass them as uint8"
        )


def batch_of(images):
    """Images as float32; ValueError unless they are [B, H, W, C], none of them 0."""
    if jnp.ndim(images) != 4 or 0 in jnp.shape(images):
        raise ValueError(
            "images must be [B, H, W, C] with B, H, W, C >= 1, got shape "
            f"{jnp.shape(images)}"
        )
    return to_float(images)


def where_chosen(chosen, changed, images):
    """Takes the images that are `chosen` [B] from `changed`."""
    return jnp.where(chosen[:, None, None, None], changed, images)


def require_probability(value):
    if not 0 <= value <= 1:
        raise ValueError(f"probability must be in [0, 1], got {value}")


def require_size(size):
    if not (hasattr(size, "__index__") and size >= 1):
        raise ValueError(
            f"size must be a whole number of pixels, at least 1, got {size}"
        )


def require_interval(name, interval, most=math.inf):
    low, high = interval
    if not 0 < low <= high <= most:
        limit = "" if most == math.inf else f" <= {most}"
        raise ValueError(f"{name} must be 0 < low <= high{limit}, got {interval}")


def require_colours(channels):
    if channels not in (1, 3):
        raise ValueError(f"colour operations need 1 or 3 channels, got {channels}")


def uniform(key, *shape):
    """U(0, 1) in float32, whatever jax_enable_x64 says.

    Each operation draws all its numbers in one call, because every call adds about
    0.1 s to the compilation on a CPU, and 30 calls were half of it.
    """
    return jax.random.uniform(key, shape, jnp.float32)


def between(draw, low, high):
    """U(0, 1) -> U(low, high)."""
    return low + draw * (high - low)


def resample(images, rows, columns):
    """[B, H, W, C] by [B, h, H] and [B, w, W] -> [B, h, w, C]."""
    tall = jnp.einsum("bsh,bhwc->bswc", rows, images, precision=_RESAMPLE_PRECISION)
    return jnp.einsum("btw,bswc->bstc", columns, tall, precision=_RESAMPLE_PRECISION)
