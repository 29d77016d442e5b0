"""Augmentation that moves pixels: crop, flip, affine maps, erasing; see views.py."""

import jax
import jax.numpy as jnp

from simclr_jax.augment import inputs as checks
from simclr_jax.augment import pixels

Interval = tuple[float, float]


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
    the largest centred window with a ratio in `ratio`, as torchvision does. Resampling
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
    """
    images = checks.batch_of(images)
    checks.require_size(size)
    checks.require_interval("scale", scale, most=1)
    checks.require_interval("ratio", ratio)
    batch, height, width, _ = images.shape
    top, left, tall, wide = pixels.windows(key, batch, height, width, scale, ratio)
    rows = pixels.bicubic_weights(top, tall, height, size)
    columns = pixels.bicubic_weights(left, wide, width, size)
    return jnp.clip(pixels.resample(images, rows, columns), 0, 1)


def flip(key: jax.Array, images: jax.Array, *, probability: float = 0.5) -> jax.Array:
    """Mirrors images left to right.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      probability: of an image to be mirrored.

    Returns:
      [B, H, W, C], float32 in [0, 1].
    """
    images = checks.batch_of(images)
    checks.require_probability(probability)
    if probability == 0:
        return images
    chosen = pixels.uniform(key, len(images)) < probability
    return checks.where_chosen(chosen, images[:, :, ::-1], images)


def random_affine(
    key: jax.Array, images: jax.Array, *, rotation: float = 0.0, shear: float = 0.0
) -> jax.Array:
    """Turns every image about its centre and shears it along its rows.

    Bilinear; what comes from outside the image is black, as torchvision's
    RandomAffine, so that on photographs the corners tell how far it was turned.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      rotation: largest turn, in degrees; drawn uniformly, to either side.
      shear: largest angle by which columns lean, in degrees below 90; drawn likewise.

    Returns:
      [B, H, W, C], float32 in [0, 1].
    """
    images = checks.batch_of(images)
    if not (0 <= rotation <= 180 and 0 <= shear < 90):
        raise ValueError(
            "rotation must be from 0 to 180 and shear from 0 to below 90 degrees, got "
            f"{rotation=}, {shear=}"
        )
    if not rotation and not shear:
        return images
    draws = pixels.uniform(key, 2, len(images))
    turn = jnp.deg2rad(pixels.between(draws[0], -rotation, rotation))
    lean = jnp.tan(jnp.deg2rad(pixels.between(draws[1], -shear, shear)))
    return pixels.affine(images, turn, lean)


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
      probability: of an image to lose a window.
      scale: smallest and largest area of the window, as a fraction of the image's.
      ratio: smallest and largest width / height of the window.

    Returns:
      [B, H, W, C], float32 in [0, 1].

    References:
      Zhong et al., Random erasing data augmentation (arXiv:1708.04896), algorithm 1.
    """
    images = checks.batch_of(images)
    checks.require_probability(probability)
    checks.require_interval("scale", scale, most=1)
    checks.require_interval("ratio", ratio)
    if probability == 0:
        return images
    key_window, key_chosen = jax.random.split(key)
    batch, height, width, _ = images.shape
    window = pixels.windows(key_window, batch, height, width, scale, ratio)
    top, left, tall, wide = (x[:, None] for x in window)
    row, column = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (row >= top) & (row < top + tall)
    in_columns = (column >= left) & (column < left + wide)
    inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
    chosen = pixels.uniform(key_chosen, batch) < probability
    return checks.where_chosen(chosen, jnp.where(inside, 0, images), images)


def center(images: jax.Array, *, size: int) -> jax.Array:
    """The test-time view: an image of side `size` as it is, others cropped, resized.

    Of an image with another side, the centred square of 87.5% of its shorter side is
    resized to `size` (bicubic, antialiased): SimCLR's test crop, 224 out of 256.

    Args:
      images: [B, H, W, C], uint8, or floats in [0, 1].
      size: side of the result in pixels.

    Returns:
      [B, size, size, C], float32 in [0, 1].
    """
    images = checks.batch_of(images)
    checks.require_size(size)
    batch, height, width, channels = images.shape
    if height == width == size:
        return images
    side = max(1, round(0.875 * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    window = images[:, top : top + side, left : left + side]
    shape = (batch, size, size, channels)
    resized = jax.image.resize(window, shape, "cubic", precision=pixels.PRECISION)
    return jnp.clip(resized, 0, 1)
