"""Augmentation of images on the device: random views, and the operations in them.

    view_a, view_b = two_views(key, images, views=(View(), View(blur=0.5)), size=32)

All functions are pure, can be jitted and take one key per call, from which every image
of the batch draws for itself. Images are [B, H, W, C] in [0, 1], or uint8, read as
k/255; results are float32. A strength or probability of 0 leaves the images untouched,
bit for bit, at no cost: all settings are plain Python numbers. A wrong setting is a
ValueError at trace time.

`views.py` says what a view is; `geometry.py` moves pixels, `colours.py` changes them.
"""

from simclr_jax.augment.colours import color_jitter, gaussian_blur, grayscale, solarize
from simclr_jax.augment.geometry import (
    center,
    erase,
    flip,
    random_affine,
    random_resized_crop,
)
from simclr_jax.augment.inputs import to_float
from simclr_jax.augment.views import View, augment, two_views

__all__ = [
    "View",
    "augment",
    "center",
    "color_jitter",
    "erase",
    "flip",
    "gaussian_blur",
    "grayscale",
    "random_affine",
    "random_resized_crop",
    "solarize",
    "to_float",
    "two_views",
]
