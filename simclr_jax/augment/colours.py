"""Augmentation of colours: jitter, grey, blur, solarization; see views.py."""

import jax
import jax.numpy as jnp

from simclr_jax.augment import inputs as checks
from simclr_jax.augment import pixels

Interval = tuple[float, float]

# Rec. 601 luma, with the digits of tf.image and torchvision.
_LUMA = (0.2989, 0.587, 0.114)


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
    images = checks.batch_of(images)
    checks.require_probability(probability)
    strengths = (brightness, contrast, saturation, hue)
    if not all(strength >= 0 for strength in strengths) or hue > 0.5:
        raise ValueError(
            "strengths must be >= 0 and hue <= 0.5, got "
            f"{brightness=}, {contrast=}, {saturation=}, {hue=}"
        )
    if probability == 0 or not any(strengths):
        return images
    checks.require_colours(images.shape[-1])
    draws = pixels.uniform(key, 9, len(images))
    jittered = pixels.jitter(draws[:8], images, *strengths)
    return checks.where_chosen(draws[8] < probability, jittered, images)


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
    images = checks.batch_of(images)
    checks.require_probability(probability)
    if probability == 0:
        return images
    checks.require_colours(images.shape[-1])
    if images.shape[-1] == 1:
        return images
    weights = jnp.array(_LUMA, jnp.float32)[:, None]
    luma = jnp.dot(images, weights, precision=pixels.PRECISION)
    return checks.where_chosen(
        pixels.uniform(key, len(images)) < probability, luma, images
    )


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
    images = checks.batch_of(images)
    checks.require_probability(probability)
    checks.require_interval("sigma", sigma)
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
    return checks.where_chosen(draws[1] < probability, blurred, images)


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
    images = checks.batch_of(images)
    checks.require_probability(probability)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    if probability == 0:
        return images
    inverted = jnp.where(images < threshold, images, 1 - images)
    return checks.where_chosen(
        pixels.uniform(key, len(images)) < probability, inverted, images
    )
