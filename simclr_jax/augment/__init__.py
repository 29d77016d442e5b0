"""Augmentation on the device; `views.py` says how."""

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
