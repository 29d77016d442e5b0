"""What the layout constraint on the gradients saves in a step, on the device at hand.

    python benchmarks/optimizer_layout.py

Adam on 16 million parameters of eight convolutions, with so few pixels that the update
costs most. Prints milliseconds a step with the constraint of `training.make_step` and
without it, in alternating turns. On a CPU there is nothing to save.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import optax

from simclr_jax.training import step as step_lib

_SHAPES = [(3, 3, 512, 512)] * 6 + [(1, 1, 512, 2048), (1, 1, 2048, 512)]
_STEPS, _TURNS = 200, 3


def loss_fn(params, model_state, key, images):
    x = images
    for kernel in params:
        x = jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    return jnp.mean(x.astype(jnp.float32) ** 2), (model_state, {})


def main() -> None:
    key = jax.random.key(0)
    keys = list(jax.random.split(key, len(_SHAPES)))
    images = jax.random.normal(key, (256, 4, 4, 512), jnp.bfloat16)
    tx = optax.adam(1e-3)

    @jax.jit
    def start():
        pairs = zip(keys, _SHAPES, strict=True)
        kernels = [0.01 * jax.random.normal(key, shape) for key, shape in pairs]
        return step_lib.init_state(kernels, {}, tx)

    variants = {"constrained": step_lib._row_major, "free": lambda gradient: gradient}
    running = {}
    for name, layout in variants.items():
        step_lib._row_major = layout  # read when the step is traced, at its first call
        step = step_lib.make_step(loss_fn, tx)
        running[name] = (step, step(start(), key, images)[0])
    for _ in range(_TURNS):
        for name, (step, state) in running.items():
            begin = time.perf_counter()
            for _ in range(_STEPS):
                state, _ = step(state, key, images)
            jax.block_until_ready(state)
            running[name] = step, state
            taken = 1e3 * (time.perf_counter() - begin) / _STEPS
            print(f"{name}: {taken:.3f} ms", flush=True)
    print(jax.devices()[0].device_kind, jax.__version__)


if __name__ == "__main__":
    main()
