"""Random views: the settings of one, and the order of its operations.

Every method of this package learns from two random views of one image (SimCLR,
arXiv:2002.05709, section 3 and appendix A).
"""

from typing import NamedTuple

import jax

from simclr_jax.augment.colours import color_jitter, gaussian_blur, grayscale, solarize
from simclr_jax.augment.geometry import erase, flip, random_affine, random_resized_crop
from simclr_jax.augment.inputs import Interval, batch_of


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
    rotation: float = 0.0  # largest turn to either side, degrees
    shear: float = 0.0  # largest lean to either side, degrees
    erase: float = 0.0  # probability that a window is blackened
    erase_scale: Interval = (0.02, 0.33)  # area of that window / area of the view


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

    Raises:
      ValueError: a wrong shape, type or setting; outside jit also floats far outside
        [0, 1], as of 0 to 255. Inside jit, where values are unknown, these are clipped.

    Example:
      >>> images = jax.numpy.zeros([8, 60, 80, 3], jax.numpy.uint8)
      >>> crop_flip = View(jitter=0.0, grayscale=0.0)
      >>> from functools import partial
      >>> draw = partial(two_views, views=(crop_flip, crop_flip), size=32)
      >>> [view.shape for view in jax.jit(draw)(jax.random.key(0), images)]
      [(8, 32, 32, 3), (8, 32, 32, 3)]
    """
    key_a, key_b = jax.random.split(key)
    images = batch_of(images_uint8)
    view_a, view_b = views
    return (
        augment(key_a, images, view=view_a, size=size),
        augment(key_b, images, view=view_b, size=size),
    )


def augment(key: jax.Array, images: jax.Array, *, view: View, size: int) -> jax.Array:
    """Draws one random view of every image.

    The order is crop, rotation and shear, flip, jitter, grey, blur, solarize, erase.

    Args:
      key: PRNG key of this call.
      images: [B, H, W, C], uint8, or floats in [0, 1].
      view: settings of the view.
      size: side of the result in pixels.

    Returns:
      [B, size, size, C], float32 in [0, 1].
    """
    keys = jax.random.split(key, 8)
    x = random_resized_crop(
        keys[0], images, size=size, scale=view.crop_scale, ratio=view.crop_ratio
    )
    x = random_affine(keys[6], x, rotation=view.rotation, shear=view.shear)
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
    x = solarize(keys[5], x, probability=view.solarize, threshold=threshold)
    return erase(keys[7], x, probability=view.erase, scale=view.erase_scale)
