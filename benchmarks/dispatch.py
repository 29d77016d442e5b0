"""Times how long the host takes to start a train step, alone or several in one call.

    python benchmarks/dispatch.py

Runs the real step (`training.make_step`, LARS) on a state with as many arrays as
SimCLR's ResNet has, each shrunk to one number. What is left is the host's part of a
step and a little arithmetic. `scan` puts ten steps into one call. The training loop
starts a step while the one before still runs, so the host's part costs time only if the
device's part is shorter. Prints one JSON line per network.
"""

import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp

from simclr_jax import methods
from simclr_jax import training as train
from simclr_jax.encoders import ResNet
from simclr_jax.heads import Projector
from simclr_jax.training import optimizers as optim

STEPS, TOGETHER, ROUNDS = 200, 10, 7


def state_like(depth: int, tx: Any) -> train.TrainState:
    """SimCLR's state of this depth, every array shrunk to one number."""
    method = methods.make("simclr", ResNet(depth=depth), projector=Projector(dim=128))
    blank = jnp.zeros((2, 224, 224, 3))
    shapes = jax.eval_shape(lambda: method.init(jax.random.key(0), blank))
    params, model_state = jax.tree.map(lambda x: jnp.ones((1,) * x.ndim), shapes)
    return jax.jit(partial(train.init_state, tx=tx))(params, model_state)


def loss(params: Any, model_state: Any, key: Any, batch: Any):
    total = sum(jnp.sum(x) for x in jax.tree.leaves(params))
    return total * batch, (model_state, {})


def milliseconds(step: Any, state: Any, calls: int) -> tuple[float, Any]:
    key, batch = jax.random.key(1), jnp.ones(())
    begin = time.perf_counter()
    for _ in range(calls):
        state, metrics = step(state, key, batch)
    jax.block_until_ready(metrics)
    return 1e3 * (time.perf_counter() - begin), state


def main() -> None:
    for depth in (18, 50):
        tx, _ = optim.make("lars", lr=1e-3, total_steps=1000)
        one = train.make_step(loss, tx)

        @jax.jit
        def several(state: Any, key: Any, batch: Any, one: Any = one):
            def body(state: Any, _: Any):
                return one(state, key, batch)

            return jax.lax.scan(body, state, length=TOGETHER)

        state = state_like(depth, tx)
        other = jax.tree.map(jnp.copy, state)
        arrays = len(jax.tree.leaves(state))
        _, state = milliseconds(one, state, 1)
        _, other = milliseconds(several, other, 1)
        alone, together = [], []
        for _ in range(ROUNDS):
            taken, state = milliseconds(one, state, STEPS)
            alone.append(taken / STEPS)
            taken, other = milliseconds(several, other, STEPS // TOGETHER)
            together.append(taken / STEPS)
        result = {
            "depth": depth,
            "arrays": arrays,
            "ms_per_step": round(statistics.median(alone), 3),
            "ms_per_step_scan": round(statistics.median(together), 3),
            "device": jax.devices()[0].device_kind,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
