"""Augmentation of images on the device: random views, and the operations in them.

    view_a, view_b = two_views(key, images, views=(View(), View(blur=0.5)), size=32)

All functions are pure and can be jitted. Each takes one key per call and draws from it
for every image of the batch separately. Images are [B, H, W, C] in [0, 1], or uint8,
read as k/255; results are float32. All settings are plain Python numbers, so a strength
or probability of 0 costs nothing and leaves the images unchanged, bit for bit. A wrong
setting raises a ValueError at trace time.

`views.py` defines a view; `geometry.py` moves pixels, `colours.py` changes them.
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
