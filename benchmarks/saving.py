"""Times how long training stands still for a checkpoint, before and after.

    python benchmarks/saving.py
    python benchmarks/saving.py --output=benchmarks/results/saving_cpu.json

`training.run` trains with Adam on arrays of the shapes of SimCLR's ResNet-50 (about
300 MB with the optimizer's); the loss is their sum of squares, so that a step costs
little else than the optimizer's arithmetic. Each round trains three times:

    never          no checkpoint
    synchronous    checkpoint.save between two steps, as before
    background     checkpoint.BackgroundSaver

"still_ms" is the time from a step's end to the return of the hook that saves; the next
step can't start earlier; the median, the least and the most. In the background the
first save of a training takes "first_still_ms", because it compiles the copy. The
device also has to copy the state, "copy_ms", which is timed alone. "cost_ms" is by how
much a save made the whole training longer, the wait at its end included, in each round.
On a CPU it holds the digests and writes, which use the same cores as the steps.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp

from simclr_jax import checkpoint, methods
from simclr_jax import training as train
from simclr_jax.checkpoint import background
from simclr_jax.encoders import ResNet
from simclr_jax.experiment import provenance
from simclr_jax.heads import Projector
from simclr_jax.training import optimizers
from simclr_jax.training.progress import Progress

WAYS = ("never", "synchronous", "background")
ITEMS = ("params", "model_state", "opt_state")


def new_state(tx: Any) -> train.TrainState:
    """A state of ones, in the shapes of SimCLR with a ResNet-50."""
    method = methods.make("simclr", ResNet(depth=50), projector=Projector(dim=128))
    blank = jnp.zeros((2, 224, 224, 3))
    shapes = jax.eval_shape(lambda: method.init(jax.random.key(0), blank))

    @jax.jit
    def start() -> train.TrainState:
        params, model_state = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
        return train.init_state(params, model_state, tx)

    return start()


def loss(params: Any, model_state: Any, key: Any, batch: Any):
    total = sum(jnp.sum(x * x) for x in jax.tree.leaves(params))
    return total * batch, (model_state, {})


def endless():
    while True:
        yield jnp.float32(1e-6)


class Training:
    """One training of some steps, with its saves timed."""

    def __init__(self, step_fn: Callable, way: str, saves: int, every: int):
        self._step_fn, self._way, self._every = step_fn, way, every
        last = saves * every
        self._plan = train.Plan(last, every, 1, last, every)
        self.still: list[float] = []
        self.waited = 0  # saves that had to wait for the one before

    def run(self, state: train.TrainState) -> float:
        """Trains; returns the seconds until the last checkpoint is on the disk."""
        progress = Progress("", 0, self._plan.last_step, 1, 1, 0.0, silent=True)
        jax.block_until_ready(state)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            with checkpoint.BackgroundSaver(folder) as saver:
                hooks = train.Hooks(
                    record=lambda step, **values: None,
                    save=partial(self._save, folder, saver),
                    progress=progress,
                    schedule=lambda step: 1e-3,
                    check=saver.check,
                )
                key = jax.random.key(0)
                state = train.run(
                    self._step_fn, state, key, endless(), self._plan, hooks
                )
                jax.block_until_ready(state)
            seconds = time.perf_counter() - begin
        return seconds

    def _save(
        self, folder: str, saver: checkpoint.BackgroundSaver, state: train.TrainState
    ) -> None:
        if self._way == "never":
            return
        items = {name: getattr(state, name) for name in ITEMS}
        if self._way == "background":
            self.waited += saver.busy()
            begin = time.perf_counter()
            saver.save(state.step, items, {})
        else:
            jax.block_until_ready(state)
            begin = time.perf_counter()
            checkpoint.save(folder, int(state.step), items, {})
        self.still.append(1e3 * (time.perf_counter() - begin))


def copy_ms(state: train.TrainState, times: int = 7) -> float:
    """How long the device takes to copy a state."""
    taken = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        jax.block_until_ready(background._copies(state))
        taken.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(taken[1:])  # the first one is compiled


def measure(rounds: int, saves: int, every: int) -> dict[str, Any]:
    tx, _ = optimizers.make("adam", lr=1e-3, total_steps=1000)
    step_fn = train.make_step(loss, tx)
    state = new_state(tx)
    leaves = jax.tree.leaves(state)
    found: dict[str, Any] = {
        "state_mb": round(sum(x.nbytes for x in leaves) / 1e6, 1),
        "arrays": len(leaves),
        "copy_ms": round(copy_ms(state), 1),
    }
    first = Training(step_fn, "background", 1, 2)  # compiles
    first.run(state)
    found["first_still_ms"] = round(first.still[0], 1)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    still: dict[str, list[float]] = {way: [] for way in WAYS[1:]}
    waited = 0
    for _ in range(rounds):
        for way in WAYS:
            training = Training(step_fn, way, saves, every)
            seconds[way].append(training.run(new_state(tx)))
            if way != "never":
                still[way] += training.still
            waited += training.waited
    found["step_ms"] = round(1e3 * min(seconds["never"]) / (saves * every), 1)
    for way in WAYS[1:]:
        more = [a - b for a, b in zip(seconds[way], seconds["never"], strict=True)]
        found[way] = {
            "still_ms": [
                round(f(still[way]), 1) for f in (statistics.median, min, max)
            ],
            "cost_ms": [round(1e3 * x / saves, 1) for x in more],
            "seconds": [round(x, 2) for x in seconds[way]],
        }
    found["never"] = {"seconds": [round(x, 2) for x in seconds["never"]]}
    found["saves_that_waited"] = waited
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--saves", type=int, default=4, help="saves in a training")
    parser.add_argument("--every", type=int, default=15, help="steps from save to save")
    parser.add_argument("--output", type=Path, help="also write a JSON file")
    request = parser.parse_args()
    result = provenance.collect() | {
        name: getattr(request, name) for name in ("rounds", "saves", "every")
    }
    result |= measure(request.rounds, request.saves, request.every)
    text = json.dumps(result, indent=1)
    print(text)
    if request.output:
        request.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
