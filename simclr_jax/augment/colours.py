"""Augmentation that changes pixels: jitter, grey, blur, solarization."""

import jax
import jax.numpy as jnp

from simclr_jax.augment.inputs import (
    PRECISION,
    Interval,
    batch_of,
    between,
    require_colours,
    require_interval,
    require_probability,
    resample,
    uniform,
    where_chosen,
)

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
    """Changes brightness, contrast, saturation and hue, in a random order per image.

    Strength s sets the range of a random change. Brightness multiplies all channels by
    a factor from U(max(0, 1 - s), 1 + s). Contrast multiplies the distance from each
    channel's mean over the image by such a factor, as in tf.image (PIL takes one grey
    mean for all channels); saturation does so with HSV saturation. Hue is turned by
    U(-s, s) of the colour circle. Pixels are clipped to [0, 1] after each change, as in
    SimCLR's code.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C] with 3 channels, or 1, which saturation and hue leave alone.
        Without saturation and hue C may be any number.
      brightness, contrast, saturation: strengths >= 0.
      hue: strength in [0, 0.5].
      probability: that an image is jittered at all.

    Returns:
      [B, H, W, C], float32 in [0, 1].

    References:
      SimCLR (arXiv:2002.05709), appendix A; its code has s = 0.8, 0.8, 0.8, 0.2 on
      ImageNet and half of that on CIFAR-10.
    """
    images = batch_of(images)
    require_probability(probability)
    strengths = (brightness, contrast, saturation, hue)
    if not all(strength >= 0 for strength in strengths) or hue > 0.5:
        raise ValueError(
            "strengths must be >= 0 and hue <= 0.5, got "
            f"{brightness=}, {contrast=}, {saturation=}, {hue=}"
        )
    if probability == 0 or not any(strengths):
        return images
    if saturation or hue:
        require_colours(images.shape[-1])
    draws = uniform(key, 9, len(images))
    jittered = _jitter(draws[:8], images, *strengths)
    return where_chosen(draws[8] < probability, jittered, images)


def grayscale(
    key: jax.Array, images: jax.Array, *, probability: float = 0.2
) -> jax.Array:
    """Replaces the colours by their luma (Rec. 601).

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C] with 3 channels, or 1, which is returned as it is.
      probability: that an image loses its colours.

    Returns:
      [B, H, W, C], float32 in [0, 1].

    Example:
      >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
      >>> grayscale(jax.random.key(0), red, probability=1.0).ravel().tolist()
      [0.298..., 0.298..., 0.298...]
    """
    images = batch_of(images)
    require_probability(probability)
    if probability == 0:
        return images
    require_colours(images.shape[-1])
    if images.shape[-1] == 1:
        return images
    weights = jnp.array(_LUMA, jnp.float32)[:, None]
    luma = jnp.dot(images, weights, precision=PRECISION)
    return where_chosen(uniform(key, len(images)) < probability, luma, images)


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
      probability: that an image is blurred.
      sigma: smallest and largest standard deviation, in pixels.

    Returns:
      [B, H, W, C], float32 in [0, 1].
    """
    images = batch_of(images)
    require_probability(probability)
    require_interval("sigma", sigma)
    if probability == 0:
        return images
    batch, height, width, _ = images.shape
    draws = uniform(key, 2, batch)
    sigmas, radius = between(draws[0], *sigma), height // 10 // 2
    rows, columns = (_gaussian_weights(sigmas, n, radius) for n in (height, width))
    # A mean of ones can round to more than one.
    blurred = jnp.clip(resample(images, rows, columns), 0, 1)
    return where_chosen(draws[1] < probability, blurred, images)


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
      probability: that an image is solarized.
      threshold: in [0, 1].

    Returns:
      [B, H, W, C], float32 in [0, 1].

    References:
      BYOL (arXiv:2006.07733), appendix B: second view only, probability 0.2.

    Example:
      >>> image = jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1)
      >>> solarize(jax.random.key(0), image, probability=1.0).ravel().tolist()
      [0.25, 0.25]
    """
    images = batch_of(images)
    require_probability(probability)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    if probability == 0:
        return images
    inverted = jnp.where(images < threshold, images, 1 - images)
    return where_chosen(uniform(key, len(images)) < probability, inverted, images)


def _jitter(draws, images, brightness, contrast, saturation, hue):
    """The four colour operations on every image, by draws [8, B] from U(0, 1)."""
    batch, _, _, channels = images.shape
    in_rgb = brightness > 0 or contrast > 0
    in_hsv = (saturation > 0 or hue > 0) and channels == 3
    draws = draws[:, :, None]
    strengths = (brightness, contrast, saturation)
    gain, stretch, scale = (
        between(draw, max(0, 1 - strength), 1 + strength)
        for draw, strength in zip(draws[:3], strengths, strict=True)
    )
    turn = between(draws[3], -hue, hue)
    # Four random times set the order. Saturation and hue commute, so all that matters
    # is whether each comes before, between or after the other two.
    at_brightness, at_contrast, at_saturation, at_hue = draws[4:]
    brightness_round = jnp.where(at_brightness < at_contrast, 1, 2)
    saturation_round, hue_round = (
        jnp.where(at > at_brightness, 1, 0) + jnp.where(at > at_contrast, 1, 0)
        for at in (at_saturation, at_hue)
    )

    def one_round(planes, i):
        if in_rgb:
            now_gain = jnp.where(brightness_round == i, gain, 1)
            now_stretch = jnp.where(3 - brightness_round == i, stretch, 1)
            planes = [_adjust_rgb(plane, now_gain, now_stretch) for plane in planes]
        if in_hsv:
            now_scale = jnp.where(saturation_round == i, scale, 1)
            now_turn = jnp.where(hue_round == i, turn, 0)
            planes = _adjust_hsv(*planes, now_scale, now_turn)
        return tuple(planes), None

    # Branching per image would run every branch for every image. Instead, each of three
    # rounds runs all operations, and those that are not an image's turn are neutral.
    # The rounds are a loop because, unrolled, XLA on the CPU recomputes the first ones
    # inside the last. Each channel is an array [B, H*W] of its own because that
    # vectorises several times better there.
    planes = tuple(images[..., c].reshape(batch, -1) for c in range(channels))
    rounds = jnp.arange(0 if in_hsv else 1, 3)
    planes, _ = jax.lax.scan(one_round, planes, rounds)
    return jnp.stack(planes, axis=-1).reshape(images.shape)


def _adjust_rgb(plane, gain, stretch):
    """Scales `plane` [B, N] by `gain` and around its mean by `stretch`, both [B, 1]."""
    mean = plane.mean(axis=1, keepdims=True)
    return jnp.clip(gain * (stretch * plane + (1 - stretch) * mean), 0, 1)


def _adjust_hsv(red, green, blue, scale, turn):
    """Scales saturation by `scale` and turns hue by `turn`, [B, 1]; channels [B, N].

    A channel is value - chroma * ramp(hue), each with its own ramp, and chroma is
    saturation * value: only chroma and hue change, and the result stays in [0, value].
    """
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    unit = 1 / jnp.where(chroma > 0, chroma, 1)
    hue = jnp.where(
        value == red,
        (green - blue) * unit,
        jnp.where(value == green, 2 + (blue - red) * unit, 4 + (red - green) * unit),
    )
    hue = hue + 6 * turn
    hue = hue - 6 * jnp.floor(hue / 6)  # in [0, 6]: red 0, green 2, blue 4
    chroma = jnp.minimum(scale * chroma, value)
    return (
        value - chroma * jnp.clip(2 - jnp.abs(hue - 3), 0, 1),
        value - chroma * jnp.clip(jnp.abs(hue - 2) - 1, 0, 1),
        value - chroma * jnp.clip(jnp.abs(hue - 4) - 1, 0, 1),
    )


def _gaussian_weights(sigma, total, radius):
    """Weights [B, total, total] of a Gaussian cut at `radius`; rows sum to 1."""
    pixel = jnp.arange(total, dtype=jnp.float32)
    distance = (pixel[:, None] - pixel[None, :])[None]
    weights = jnp.exp(-0.5 * (distance / sigma[:, None, None]) ** 2)
    weights = jnp.where(jnp.abs(distance) <= radius, weights, 0)
    return weights / weights.sum(axis=2, keepdims=True)
