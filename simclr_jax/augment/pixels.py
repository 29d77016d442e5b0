"""The arithmetic of augmentation: windows, resampling, colour; see views.py.

Draws come in as U(0, 1) arrays, one per image, so that nothing here has a key but
`uniform`. Pixels are float32 in [0, 1].
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

# Candidate windows of a random crop, as many as torchvision's RandomResizedCrop tries.
_ATTEMPTS = 10
# Otherwise GPUs round the pixels in a product to the 10 bits of TF32.
PRECISION = jax.lax.Precision.HIGHEST


def uniform(key, *shape):
    """U(0, 1) in float32, whatever jax_enable_x64 says.

    Each operation draws all it needs at once: every call to the generator adds some
    0.1 s to the compilation on a CPU, and 30 of them were half of it.
    """
    return jax.random.uniform(key, shape, jnp.float32)


def between(draw, low, high):
    """U(0, 1) -> U(low, high)."""
    return low + draw * (high - low)


def windows(key, batch, height, width, scale, ratio):
    """Random windows as whole numbers in float32 [B]: top, left, height, width."""
    draws = uniform(key, 2 * _ATTEMPTS + 2, batch)
    low, high = ratio
    area = between(draws[:_ATTEMPTS], *scale) * (height * width)
    log_ratio = between(draws[_ATTEMPTS:-2], math.log(low), math.log(high))
    tall = jnp.round(jnp.sqrt(area * jnp.exp(-log_ratio)))
    wide = jnp.round(jnp.sqrt(area * jnp.exp(log_ratio)))
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    first, found = jnp.argmax(fits, axis=0, keepdims=True), jnp.any(fits, axis=0)

    def place(side, draw, total, fallback):
        side = jnp.take_along_axis(side, first, axis=0)[0]
        side = jnp.where(found, side, min(total, max(1, round(fallback))))
        room = total - side
        return side, jnp.floor(jnp.where(found, draw * (room + 1), room / 2))

    tall, top = place(tall, draws[-2], height, width / low)
    wide, left = place(wide, draws[-1], width, height * high)
    return top, left, tall, wide


def bicubic_weights(start, extent, total, size):
    """Weights [B, size, total] that resize pixels start..start+extent to `size`.

    Keys' cubic kernel with a = -0.5, the one of PIL, TensorFlow and jax.image, with
    pixel centres at k + 0.5; widened by the scale when that shrinks the window.
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


def gaussian_weights(sigma, total, radius):
    """Weights [B, total, total] of a Gaussian cut at `radius`; rows sum to 1."""
    pixel = jnp.arange(total, dtype=jnp.float32)
    distance = (pixel[:, None] - pixel[None, :])[None]
    weights = jnp.exp(-0.5 * (distance / sigma[:, None, None]) ** 2)
    weights = jnp.where(jnp.abs(distance) <= radius, weights, 0)
    return weights / weights.sum(axis=2, keepdims=True)


def resample(images, rows, columns):
    """[B, H, W, C] by [B, h, H] and [B, w, W] -> [B, h, w, C]."""
    tall = jnp.einsum("bsh,bhwc->bswc", rows, images, precision=PRECISION)
    return jnp.einsum("btw,bswc->bstc", columns, tall, precision=PRECISION)


def affine(images, turn, lean):
    """Images turned by `turn` [B] radians, counterclockwise, after columns were leant
    by `lean` [B] (pixels to the right per pixel upwards); bilinear, black outside."""
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


def jitter(draws, images, brightness, contrast, saturation, hue):
    """The four colour operations on every image, by draws [8, B] from U(0, 1)."""
    batch, _, _, channels = images.shape
    in_rgb = brightness > 0 or contrast > 0
    in_hsv = (saturation > 0 or hue > 0) and channels == 3
    draws = draws[:, :, None]
    bright, spread, vivid = (
        between(draw, max(0, 1 - strength), 1 + strength)
        for draw, strength in zip(
            draws[:3], (brightness, contrast, saturation), strict=True
        )
    )
    turn = between(draws[3], -hue, hue)
    # The order is that of four random times. Saturation and hue commute, so only the
    # gap matters in which each falls: before, between or after the other two.
    at_bright, at_spread, at_vivid, at_turn = draws[4:]
    bright_round = jnp.where(at_bright < at_spread, 1, 2)
    vivid_round, turn_round = (
        jnp.where(at > at_bright, 1, 0) + jnp.where(at > at_spread, 1, 0)
        for at in (at_vivid, at_turn)
    )

    def one_round(planes, i):
        if in_rgb:
            gain = jnp.where(bright_round == i, bright, 1)
            stretch = jnp.where(3 - bright_round == i, spread, 1)
            planes = [_adjust_rgb(plane, gain, stretch) for plane in planes]
        if in_hsv:
            scale = jnp.where(vivid_round == i, vivid, 1)
            planes = _adjust_hsv(*planes, scale, jnp.where(turn_round == i, turn, 0))
        return tuple(planes), None

    # Branching per image would run every branch for every image; in three rounds each
    # operation that is not an image's turn is neutral. A loop, because XLA on the CPU
    # recomputes the first rounds inside the last when unrolled; channels apart, as
    # [B, H*W], because that vectorises several times better there.
    planes = tuple(images[..., c].reshape(batch, -1) for c in range(channels))
    rounds = jnp.arange(0 if in_hsv else 1, 3)
    planes, _ = jax.lax.scan(one_round, planes, rounds)
    return jnp.stack(planes, axis=-1).reshape(images.shape)


def _adjust_rgb(plane, gain, stretch):
    """Scales by `gain`, the distance from the mean by `stretch`: [B, N] and [B, 1]."""
    mean = plane.mean(axis=1, keepdims=True)
    return jnp.clip(gain * (stretch * plane + (1 - stretch) * mean), 0, 1)


def _adjust_hsv(red, green, blue, scale, turn):
    """Scales saturation by `scale` and turns hue, both [B, 1], of channels [B, N].

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
