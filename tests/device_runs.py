"""Trains a method on an encoder of a few weights, on as many devices as asked for."""

from functools import cache

import jax
import numpy as np
import optax
from small_methods import KEY, build, views

from simclr_jax import devices, training

STEPS = 20
# With 0.05 the rounding of the first steps grows to 5e-3 of the loss in 20 steps, and
# Barlow Twins' to 1e-2 with 0.01: its loss swings at such a batch. BYOL's loss would
# fall to a hundredth, of which 1e-4 is little.
LR = {"byol": 0.001, "barlow_twins": 0.003}


@cache
def batch(number: int, count: int = 16):
    """Nearly equal views of some of 64 noisy images, each of a colour of its own."""
    rng = np.random.default_rng(0)
    images = rng.random((64, 1, 1, 3)) + 0.2 * rng.normal(size=(64, 8, 8, 3))
    index = np.random.default_rng((number, 1)).choice(64, count, replace=False)
    a = images[index].clip(0, 1).astype(np.float32)
    return {"a": a, "b": np.clip(a + 0.02, 0, 1), "index": index.astype(np.int32)}


def train(case, microbatch, number):
    """The losses on `number` devices, the last state, and the step."""
    devices.use(number)
    rate = next((x for name, x in LR.items() if case.startswith(name)), 0.01)
    method, tx = build(case, microbatch=microbatch), optax.sgd(rate)

    def loss_fn(params, model_state, key, batch):
        pair = batch["a"], batch["b"]
        return method.loss(params, model_state, key, pair, batch["index"])

    def after(params, model_state, step):
        return method.update(params, model_state, step / STEPS)

    whole = devices.whole()

    def start():
        return training.init_state(*method.init(KEY, views()[0]), tx)

    state = jax.jit(start, out_shardings=whole)()
    step = training.make_step(loss_fn, tx, after, out_shardings=whole)
    losses = []
    for i in range(STEPS):
        state, metrics = step(state, KEY, devices.place(batch(i)))
        losses.append(float(metrics["loss"]))
    return losses, state, step
