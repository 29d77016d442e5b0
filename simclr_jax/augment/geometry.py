"""Augmentation that moves pixels: crop, flip, affine maps, erasing."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from simclr_jax.augment.inputs import (
    PRECISION,
    Interval,
    batch_of,
    between,
    require_interval,
    require_probability,
    require_size,
    resample,
    uniform,
    where_chosen,
)

# Candidate windows of a random crop, as many as torchvision's RandomResizedCrop tries.
_ATTEMPTS = 10


def random_resized_crop(
    key: jax.Array,
    images: jax.Array,
    *,
    size: int,
    scale: Interval = (0.08, 1.0),
    ratio: Interval = (3 / 4, 4 / 3),
) -> jax.Array:
    """A random window of every image, resized to a square ("inception crop").

    The window's area is uniform in `scale`, its ratio log-uniform in `ratio`, its sides
    and corner are whole pixels. The first of ten candidates that fits is taken, else
    the largest centred window with a ratio in `ratio`, as in torchvision. Resampling
    is bicubic, antialiased when shrinking, sees no pixel outside the window (PIL's
    `crop(window).resize(size, BICUBIC)`) and is clipped to [0, 1].

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      size: side of the result in pixels.
      scale: smallest and largest area of the window, as a fraction of the image's.
      ratio: smallest and largest width / height of the window.

    Returns:
      [B, size, size, C], float32 in [0, 1].

    Example:
      >>> crop = jax.jit(partial(random_resized_crop, size=32))
      >>> crop(jax.random.key(0), jnp.zeros([8, 60, 80, 3], jnp.uint8)).shape
      (8, 32, 32, 3)
    """
    images = batch_of(images)
    require_size(size)
    require_interval("scale", scale, most=1)
    require_interval("ratio", ratio)
    batch, height, width, _ = images.shape
    top, left, tall, wide = windows(key, batch, height, width, scale, ratio)
    rows = _bicubic_weights(top, tall, height, size)
    columns = _bicubic_weights(left, wide, width, size)
    return jnp.clip(resample(images, rows, columns), 0, 1)


def flip(key: jax.Array, images: jax.Array, *, probability: float = 0.5) -> jax.Array:
    """Mirrors images left to right.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      probability: that an image is mirrored.

    Returns:
      [B, H, W, C], float32 in [0, 1].

    Example:
      >>> image = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
      >>> flip(jax.random.key(0), image, probability=1.0).ravel().tolist()
      [1.0, 0.5, 0.0]
    """
    images = batch_of(images)
    require_probability(probability)
    if probability == 0:
        return images
    chosen = uniform(key, len(images)) < probability
    return where_chosen(chosen, images[:, :, ::-1], images)


def random_affine(
    key: jax.Array, images: jax.Array, *, rotation: float = 0.0, shear: float = 0.0
) -> jax.Array:
    """Turns every image about its centre and shears it along its rows.

    Bilinear. Pixels from outside the image are black, as in torchvision's RandomAffine,
    so the corners of a photograph reveal how far it was turned.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      rotation: largest turn to either side, in degrees; drawn uniformly.
      shear: largest angle by which columns lean to either side, in degrees below 90;
        drawn uniformly.

    Returns:
      [B, H, W, C], float32 in [0, 1].
    """
    images = batch_of(images)
    if not (0 <= rotation <= 180 and 0 <= shear < 90):
        raise ValueError(
            "rotation must be from 0 to 180 and shear from 0 to below 90 degrees, got "
            f"{rotation=}, {shear=}"
        )
    if not rotation and not shear:
        return images
    draws = uniform(key, 2, len(images))
    turn = jnp.deg2rad(between(draws[0], -rotation, rotation))
    lean = jnp.tan(jnp.deg2rad(between(draws[1], -shear, shear)))
    return affine(images, turn, lean)


def erase(
    key: jax.Array,
    images: jax.Array,
    *,
    probability: float = 0.5,
    scale: Interval = (0.02, 0.33),
    ratio: Interval = (0.3, 3.3),
) -> jax.Array:
    """Blackens a random window.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      probability: that an image loses a window.
      scale: smallest and largest area of the window, as a fraction of the image's.
      ratio: smallest and largest width / height of the window.

    Returns:
      [B, H, W, C], float32 in [0, 1].

    References:
      Zhong et al., Random erasing data augmentation (arXiv:1708.04896), algorithm 1.
    """
    images = batch_of(images)
    require_probability(probability)
    require_interval("scale", scale, most=1)
    require_interval("ratio", ratio)
    if probability == 0:
        return images
    key_window, key_chosen = jax.random.split(key)
    batch, height, width, _ = images.shape
    window = windows(key_window, batch, height, width, scale, ratio)
    top, left, tall, wide = (x[:, None] for x in window)
    row, column = (jnp.arange(n, dtype=jnp.float32)[None] for n in (height, width))
    in_rows = (row >= top) & (row < top + tall)
    in_columns = (column >= left) & (column < left + wide)
    inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
    chosen = uniform(key_chosen, batch) < probability
    return where_chosen(chosen, jnp.where(inside, 0, images), images)


def center(images: jax.Array, *, size: int) -> jax.Array:
    """The test-time view: a centre crop resized to `size`.

    A square image of side `size` stays as it is. Of any other image, the centred square
    with 87.5% of its shorter side is resized to `size` (bicubic, antialiased): SimCLR's
    test crop, 224 out of 256.

    Args:
      images: [B, H, W, C], uint8, or floats in [0, 1].
      size: side of the result in pixels.

    Returns:
      [B, size, size, C], float32 in [0, 1].

    Example:
      >>> center(jnp.ones([8, 256, 256, 3]), size=224).shape
      (8, 224, 224, 3)
    """
    images = batch_of(images)
    require_size(size)
    batch, height, width, channels = images.shape
    if height == width == size:
        return images
    side = max(1, round(0.875 * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    window = images[:, top : top + side, left : left + side]
    shape = (batch, size, size, channels)
    resized = jax.image.resize(window, shape, "cubic", precision=PRECISION)
    return jnp.clip(resized, 0, 1)


def windows(key, batch, height, width, scale, ratio):
    """Random windows as whole numbers in float32 [B]: top, left, height, width."""
    draws = uniform(key, 2 * _ATTEMPTS + 2, batch)
    low, high = ratio
    area = between(draws[:_ATTEMPTS], *scale) * (height * width)
    log_ratio = between(draws[_ATTEMPTS:-2], math.log(low), math.log(high))
    tall = jnp.round(jnp.sqrt(area * jnp.exp(-log_ratio)))
    wide = jnp.round(jnp.sqrt(area * jnp.exp(log_ratio)))
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    first, any_fits = jnp.argmax(fits, axis=0, keepdims=True), jnp.any(fits, axis=0)

    def place(side, draw, total, fallback):
        side = jnp.take_along_axis(side, first, axis=0)[0]
        side = jnp.where(any_fits, side, min(total, max(1, round(fallback))))
        room = total - side
        return side, jnp.floor(jnp.where(any_fits, draw * (room + 1), room / 2))

    tall, top = place(tall, draws[-2], height, width / low)
    wide, left = place(wide, draws[-1], width, height * high)
    return top, left, tall, wide


def _bicubic_weights(start, extent, total, size):
    """Weights [B, size, total] that resize pixels start..start+extent to `size`.

    The kernel is Keys' cubic with a = -0.5, as in PIL, TensorFlow and jax.image, with
    pixel centres at k + 0.5. When the window shrinks, the kernel widens by the scale.
    """
    start, extent = start[:, None, None], extent[:, None, None]
    step = extent / size
    pixel = jnp.arange(total, dtype=jnp.float32)[None, None, :]
    centre = start + (jnp.arange(size, dtype=jnp.float32)[None, :, None] + 0.5) * step
    x = jnp.abs(pixel + 0.5 - centre) / jnp.maximum(step, 1)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = jnp.where(x < 1, near, jnp.where(x < 2, far, 0))
    inside = (pixel >= start) & (pixel < start + extent)
    weights = jnp.where(inside, weights, 0)
    return weights / weights.sum(axis=2, keepdims=True)


def affine(images, turn, lean):
    """Leans columns by `lean` [B] (pixels to the right per pixel upwards), then turns
    the images by `turn` [B] radians counterclockwise; bilinear, black outside."""
    _, height, width, channels = images.shape
    rows = jnp.arange(height, dtype=jnp.float32)[None, :, None] - (height - 1) / 2
    columns = jnp.arange(width, dtype=jnp.float32)[None, None, :] - (width - 1) / 2
    cos, sin = (f(turn)[:, None, None] for f in (jnp.cos, jnp.sin))
    # Backwards: where in the image each pixel of the result comes from.
    y = cos * rows + sin * columns
    x = cos * columns - sin * rows + lean[:, None, None] * y
    at = [y + (height - 1) / 2, x + (width - 1) / 2]
    sample = partial(jax.scipy.ndimage.map_coordinates, order=1, mode="constant")
    planes = [jax.vmap(sample)(images[..., c], at) for c in range(channels)]
    return jnp.stack(planes, axis=-1)
