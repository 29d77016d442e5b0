"""What the tests of augmentation share: settings, noise, one key, a test of draws."""

import functools

import jax
import numpy as np
from scipy import stats

from simclr_jax import augment as A

KEY = jax.random.key(7)
EVERYTHING = A.View(
    brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, solarize=0.5
)
# A view that leaves a square image as it is, to switch single steps on.
NOTHING = A.View(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip=0.0,
    jitter=0.0,
    grayscale=0.0,
)
JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
STILL = dict.fromkeys(JITTER, 0.0)


def call(step, x, **options):
    """`step` under KEY, jitted: compiles faster than eager execution."""
    return jax.jit(functools.partial(step, **options))(KEY, x)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def assert_uniform(values, low, high):
    """Kolmogorov-Smirnov: off by 3% of the range or more fails with 3,000 values."""
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3
