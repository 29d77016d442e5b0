"""Which augmentations make a good task, alone and in pairs (SimCLR, figure 5)?

    python launch.py --config=configs/augmentations.py --workdir=runs/augment --sweep
    python launch.py --config=configs/augmentations.py:cpu --workdir=... --sweep

As in the paper, one view is augmented and the other is not. The operations:

- crop: a window of 8 to 100 % of the area, resized, and a left-right flip in half of
  the views (the paper's "cropping and resizing (with horizontal flipping)", section
  3.1);
- cutout: a blackened window of 2 to 33 % of the area;
- color: the four colour operations (probability 0.8), then grayscale (0.2);
- blur: in half of the views. At 32 pixels its kernel has 3x3 pixels, so it does little;
- rotate: up to 90 degrees to either side, black corners (the paper: quarter turns).

We have neither the paper's Sobel filter nor its Gaussian noise. Every pair is applied
in the same fixed order, so the map is symmetric. All images have the same size, so they
need no crop beforehand, as the paper's ImageNet did. The report draws the map, with
single operations on its diagonal. The default trains a ResNet-18 on CIFAR-10 as
`configs/cifar10.py:resnet18` does (SGD, temperature 0.5), not as the paper; `:cpu` has
the setting of `configs/small_batch.py:cpu`.
"""

from itertools import combinations_with_replacement

from configs import cifar10, common, small_batch

# The fields with all operations off, and those that switch each one on.
_OFF = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip": 0.0,
    "jitter": 0.0,
    "grayscale": 0.0,
    "blur": 0.0,
    "solarize": 0.0,
    "rotation": 0.0,
    "shear": 0.0,
    "erase": 0.0,
}
_ON = {
    "crop": {"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3), "flip": 0.5},
    "cutout": {"erase": 1.0},
    "color": {"jitter": 0.8, "grayscale": 0.2},
    "blur": {"blur": 0.5},
    "rotate": {"rotation": 90.0},
}


def get_config(variant: str = "cifar10"):
    if variant not in ("cifar10", "cpu"):
        raise ValueError(f"no variant {variant!r}; choose from cifar10, cpu")
    if variant == "cpu":
        config = small_batch.get_config("cpu")
    else:
        config = cifar10.get_config("resnet18")
        config.stages = ("pretrain", "probe")
        config.probe.every_epochs = 0
        config.published = common.get_config().published
    for name, value in _OFF.items():
        config.augment[name] = value
        config.augment.second[name] = value
    return config


def sweep():
    rows, cells = {}, {}
    for one, other in combinations_with_replacement(_ON, 2):
        row = one if one == other else f"{one}+{other}"
        changes = _ON[one] | _ON[other]
        rows[row] = {f"augment.{name}": value for name, value in changes.items()}
        cells[row] = (one, other)
    return {
        "rows": rows,
        "baseline": "crop",
        "chart": {"kind": "heat", "cells": cells},
    }
