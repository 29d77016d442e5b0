"""Augmentation on the device: random crop, flip, colour, blur and solarization.

Two random views of one image are what every method of this package learns from
(SimCLR, arXiv:2002.05709, section 3 and appendix A). All functions are pure, can be
jitted and take one key per call, from which every image of the batch draws for itself.

Images are [B, H, W, C] in [0, 1], or uint8, read as k/255; results are float32. A
strength or probability of 0 leaves the images untouched, bit for bit, at no cost: all
settings are plain Python numbers, and ValueErrors about them come at trace time.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simclr_jax import pixels

Interval = tuple[float, float]

# Rec. 601 luma, with the digits of tf.image and torchvision.
_LUMA = (0.2989, 0.587, 0.114)


class View(NamedTuple):
    """How one view is drawn; `View()` is SimCLR's CIFAR-10 setting (appendix B.9).

    Example:
      SimCLR on ImageNet, BYOL's second view, and crop + flip for fine-tuning:

      >>> imagenet = View(
      ...     brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5
      ... )
      >>> byol_second = View(saturation=0.2, blur=0.1, solarize=0.2)
      >>> crop_flip = View(jitter=0.0, grayscale=0.0)
    """

    crop_scale: Interval = (0.08, 1.0)  # area of the window / area of the image
    crop_ratio: Interval = (3 / 4, 4 / 3)  # width / height of the window
    flip: float = 0.5  # probability
    jitter: float = 0.8  # probability of the four colour operations together
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # largest turn, as a fraction of the colour circle
    grayscale: float = 0.2  # probability
    blur: float = 0.0  # probability
    blur_sigma: Interval = (0.1, 2.0)  # standard deviation in pixels
    solarize: float = 0.0  # probability
    solarize_threshold: float = 0.5


def two_views(
    key: jax.Array,
    images_uint8: jax.Array,
    *,
    views: tuple[View, View] = (View(), View()),
    size: int,
) -> tuple[jax.Array, jax.Array]:
    """Two independently augmented views of every image.

    Args:
      key: PRNG key of this call.
      images_uint8: [B, H, W, C], uint8, or floats in [0, 1].
      views: settings of the first and of the second view.
      size: side of the views in pixels.

    Returns:
      Two arrays [B, size, size, C], float32 in [0, 1]; row i of both shows image i.
    """
    key_a, key_b = jax.random.split(key)
    images = _batch(images_uint8)
    view_a, view_b = views
    return (
        augment(key_a, images, view=view_a, size=size),
        augment(key_b, images, view=view_b, size=size),
    )


def augment(key: jax.Array, images: jax.Array, *, view: View, size: int) -> jax.Array:
    """One random view: crop, flip, jitter, grey, blur and solarize, in this order.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      view: what to draw from.
      size: side of the result in pixels.

    Returns:
      [B, size, size, C], float32 in [0, 1].
    """
    keys = jax.random.split(key, 6)
    x = random_resized_crop(
        keys[0], images, size=size, scale=view.crop_scale, ratio=view.crop_ratio
    )
    x = flip(keys[1], x, probability=view.flip)
    x = color_jitter(
        keys[2],
        x,
        brightness=view.brightness,
        contrast=view.contrast,
        saturation=view.saturation,
        hue=view.hue,
        probability=view.jitter,
    )
    x = grayscale(keys[3], x, probability=view.grayscale)
    x = gaussian_blur(keys[4], x, probability=view.blur, sigma=view.blur_sigma)
    threshold = view.solarize_threshold
    return solarize(keys[5], x, probability=view.solarize, threshold=threshold)


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
    images = _batch(images)
    _require_size(size)
    _require_interval("scale", scale, most=1)
    _require_interval("ratio", ratio)
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
    images = _batch(images)
    _require_probability(probability)
    if probability == 0:
        return images
    chosen = pixels.uniform(key, len(images)) < probability
    return _where(chosen, images[:, :, ::-1], images)


def color_jitter(
    key: jax.Array,
    images: jax.Array,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 0.8,
) -> jax.Array:
    """Brightness, contrast, saturation and hue in an order drawn for every image.

    With strength s, the first three scale by a factor from U(max(0, 1 - s), 1 + s):
    all channels; the distance from each channel's mean over the image, as tf.image (PIL
    takes one grey mean for all channels); HSV saturation. Hue is turned by U(-s, s) of
    the colour circle. Pixels are clipped to [0, 1] after each, as in SimCLR's code.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C] with 3 channels, or 1, which saturation and hue leave alone.
      brightness, contrast, saturation: strengths >= 0.
      hue: strength in [0, 0.5].
      probability: of an image to be jittered at all.

    Returns:
      [B, H, W, C], float32 in [0, 1].

    References:
      SimCLR (arXiv:2002.05709), appendix A; its code has s = 0.8, 0.8, 0.8, 0.2 on
      ImageNet and half of it on CIFAR-10.
    """
    images = _batch(images)
    _require_probability(probability)
    strengths = (brightness, contrast, saturation, hue)
    if not all(strength >= 0 for strength in strengths) or hue > 0.5:
        raise ValueError(
            "strengths must be >= 0 and hue <= 0.5, got "
            f"{brightness=}, {contrast=}, {saturation=}, {hue=}"
        )
    if probability == 0 or not any(strengths):
        return images
    _require_colours(images.shape[-1])
    draws = pixels.uniform(key, 9, len(images))
    jittered = pixels.jitter(draws[:8], images, *strengths)
    return _where(draws[8] < probability, jittered, images)


def grayscale(
    key: jax.Array, images: jax.Array, *, probability: float = 0.2
) -> jax.Array:
    """Replaces the colours by their luma (Rec. 601).

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C] with 3 channels, or 1, which is returned as it is.
      probability: of an image to lose its colours.

    Returns:
      [B, H, W, C], float32 in [0, 1].
    """
    images = _batch(images)
    _require_probability(probability)
    if probability == 0:
        return images
    _require_colours(images.shape[-1])
    if images.shape[-1] == 1:
        return images
    weights = jnp.array(_LUMA, jnp.float32)[:, None]
    luma = jnp.dot(images, weights, precision=pixels.PRECISION)
    return _where(pixels.uniform(key, len(images)) < probability, luma, images)


def gaussian_blur(
    key: jax.Array,
    images: jax.Array,
    *,
    probability: float = 0.5,
    sigma: Interval = (0.1, 2.0),
) -> jax.Array:
    """Gaussian blur with a standard deviation drawn for every image.

    The kernel is 2 * int(H // 10 / 2) + 1 pixels wide, as in SimCLR's code: 23 at 224,
    3 at 32, and 1, which blurs nothing, below 20. At the border it is renormalised over
    the pixels that exist. SimCLR's and BYOL's code pads with zeros there, which draws a
    dark frame around blurred views only.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      probability: of an image to be blurred.
      sigma: smallest and largest standard deviation, in pixels.

    Returns:
      [B, H, W, C], float32 in [0, 1].
    """
    images = _batch(images)
    _require_probability(probability)
    _require_interval("sigma", sigma)
    if probability == 0:
        return images
    batch, height, width, _ = images.shape
    draws = pixels.uniform(key, 2, batch)
    sigmas, radius = pixels.between(draws[0], *sigma), height // 10 // 2
    rows, columns = (
        pixels.gaussian_weights(sigmas, n, radius) for n in (height, width)
    )
    # A mean of ones can round to more than one.
    blurred = jnp.clip(pixels.resample(images, rows, columns), 0, 1)
    return _where(draws[1] < probability, blurred, images)


def solarize(
    key: jax.Array,
    images: jax.Array,
    *,
    probability: float = 0.2,
    threshold: float = 0.5,
) -> jax.Array:
    """Inverts bright pixels: x < threshold stays, other x become 1 - x.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      probability: of an image to be solarized.
      threshold: in [0, 1].

    Returns:
      [B, H, W, C], float32 in [0, 1].

    References:
      BYOL (arXiv:2006.07733), appendix B: second view only, probability 0.2.
    """
    images = _batch(images)
    _require_probability(probability)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    if probability == 0:
        return images
    inverted = jnp.where(images < threshold, images, 1 - images)
    return _where(pixels.uniform(key, len(images)) < probability, inverted, images)


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
    images = _batch(images)
    _require_size(size)
    batch, height, width, channels = images.shape
    if height == width == size:
        return images
    side = max(1, round(0.875 * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    window = images[:, top : top + side, left : left + side]
    shape = (batch, size, size, channels)
    resized = jax.image.resize(window, shape, "cubic", precision=pixels.PRECISION)
    return jnp.clip(resized, 0, 1)


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


def _batch(images):
    """Images as float32, once they are known to be a batch."""
    if jnp.ndim(images) != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {jnp.shape(images)}")
    return to_float(images)


def _where(chosen, changed, images):
    """Takes the images that are `chosen` [B] from `changed`."""
    return jnp.where(chosen[:, None, None, None], changed, images)


def _require_probability(value):
    if not 0 <= value <= 1:
        raise ValueError(f"probability must be in [0, 1], got {value}")


def _require_size(size):
    if not size >= 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")


def _require_interval(name, interval, most=math.inf):
    low, high = interval
    if not 0 < low <= high <= most:
        limit = "" if most == math.inf else f" <= {most}"
        raise ValueError(f"{name} must be 0 < low <= high{limit}, got {interval}")


def _require_colours(channels):
    if channels not in (1, 3):
        raise ValueError(f"colour operations need 1 or 3 channels, got {channels}")
