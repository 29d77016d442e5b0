"""Small things the tests share: an encoder of a few weights, coloured squares as a
data set, and the recipe that trains on them in seconds."""

import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import numpy as np

ROOT = Path(__file__).parents[1]


class TinyEncoder(nn.Module):
    """One convolution, BatchNorm, mean: has everything a method must carry along."""

    features: int = 8

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(self.features, (3, 3), strides=2, use_bias=False)(images)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.relu(x).mean((1, 2))


def squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy 16x16 images whose class is the colour of a square somewhere in them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 60, (count, 16, 16, 3))
    colours = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220], [200, 200, 40]])
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(0, 8, 2)
        image[y : y + 8, x : x + 8] = colours[label]
    return images.astype(np.uint8), labels.astype(np.int32)


def faint_squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As `squares`, but of greyish colours in as much noise.

    The features of a random encoder hardly tell their classes.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 120, (count, 16, 16, 3))
    colours = [[200, 110, 110], [110, 200, 110], [110, 110, 200], [175, 175, 90]]
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(0, 8, 2)
        noise = rng.integers(-30, 30, (8, 8, 3))
        image[y : y + 8, x : x + 8] = colours[label] + noise
    return images.astype(np.uint8), labels.astype(np.int32)


def write_npz(path: Path, train: int = 64, test: int = 40, draw=squares) -> Path:
    images, labels = draw(train, 0)
    test_images, test_labels = draw(test, 1)
    np.savez(
        path,
        train_images=images,
        train_labels=labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    return path


# Seconds after which a process counts as hung: no busy machine is that slow.
PATIENCE = 3600
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    # Runs share the tests' cache; even its many small programs, half of the time.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def launch(*args: str, wait: bool = True, **env: str):
    """`python launch.py *args` in a process of its own.

    XLA optimises little: its programs run a few steps, and most of a run's time would
    go to compiling them.
    """
    command = [sys.executable, str(ROOT / "launch.py"), *args]
    options = {
        "cwd": ROOT,
        "env": os.environ | ENVIRONMENT | env,
        "text": True,
    }
    if wait:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, **options)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def recipe(npz: Path) -> list[str]:
    """The flags of a run of seconds: tests/tiny_recipe.py on these squares."""
    return [f"--config={ROOT}/tests/tiny_recipe.py", f"--config.data.path={npz}"]
