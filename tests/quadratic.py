"""A training written by hand at every step: a vector is pulled to a target."""

import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax import training as train

TARGET = np.array([1.0, -2.0, 3.0], np.float32)


def quadratic(params, model_state, key, batch):
    """0.5 |w - batch|^2: gradient w - batch; counts its calls, shows its key."""
    loss = 0.5 * jnp.sum((params["w"] - batch) ** 2)
    metrics = {"draw": jax.random.uniform(key)}
    return loss, ({"count": model_state["count"] + 1}, metrics)


def start(tx):
    params = {"w": jnp.zeros(3)}
    return train.init_state(params, {"count": jnp.zeros((), jnp.int32)}, tx)


def plan(last_step, **changes):
    fields = {
        "last_step": last_step,
        "steps_per_epoch": 5,
        "batch_size": 2,
        "log_every": 2,
        "save_every": 4,
    }
    return train.Plan(**(fields | changes))


def endless(value=TARGET):
    while True:
        yield jnp.asarray(value)
