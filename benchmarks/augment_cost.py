"""Times augmentation on the device at hand; prints one JSON line per case.

    python benchmarks/augment_cost.py
    python benchmarks/augment_cost.py --batch 256 --size 224 --stored 256 --calls 20

A case covers one batch; `two_views` makes two views of every image. `ms_min` is the
fastest of many calls: compare it between runs on a machine that others use too.
"""

import argparse
import functools
import json
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp

# This checkout, whether or not the package is installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from simclr_jax import augment


def measure(function, *arguments, calls):
    """Milliseconds of each of `calls` calls, and seconds to compile."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    milliseconds = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return milliseconds, compile_seconds


def cases(size):
    """Name -> (function of key and images, whether its images are of stored size)."""
    plain, blurred = augment.View(), augment.View(blur=0.5)
    crop_flip = augment.View(jitter=0.0, grayscale=0.0)
    two = functools.partial(augment.two_views, size=size)
    crop = functools.partial(augment.random_resized_crop, size=size)
    return {
        "two_views": (functools.partial(two, views=(plain, plain)), True),
        "two_views_blur": (functools.partial(two, views=(blurred, blurred)), True),
        "crop_flip": (
            functools.partial(augment.augment, view=crop_flip, size=size),
            True,
        ),
        "center": (lambda key, images: augment.center(images, size=size), True),
        "random_resized_crop": (crop, True),
        "flip": (augment.flip, False),
        "color_jitter": (augment.color_jitter, False),
        "grayscale": (augment.grayscale, False),
        "gaussian_blur": (augment.gaussian_blur, False),
        "solarize": (augment.solarize, False),
    }


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="images per call")
    parser.add_argument("--size", type=int, default=32, help="side of the views")
    parser.add_argument("--stored", type=int, help="side of the images (default: size)")
    parser.add_argument("--calls", type=int, default=50, help="timed calls per case")
    arguments = parser.parse_args()
    stored = arguments.stored or arguments.size

    key, device = jax.random.key(0), jax.devices()[0]
    shape = (arguments.batch, stored, stored, 3)
    images = jax.random.randint(key, shape, 0, 256).astype(jnp.uint8)
    views = jax.random.uniform(key, (arguments.batch, *[arguments.size] * 2, 3))
    for name, (function, takes_stored) in cases(arguments.size).items():
        milliseconds, compile_seconds = measure(
            function, key, images if takes_stored else views, calls=arguments.calls
        )
        row = {
            "case": name,
            "batch": arguments.batch,
            "stored": stored,
            "size": arguments.size,
            "ms_min": round(min(milliseconds), 3),
            "ms_median": round(statistics.median(milliseconds), 3),
            "compile_s": round(compile_seconds, 2),
            "device": device.device_kind,
            "jax": jax.__version__,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
