"""The train step and the loop of every stage; neither knows a config or a data set."""

from simclr_jax.training.loop import Evaluation, Hooks, Plan, run
from simclr_jax.training.step import (
    LossFn,
    TrainState,
    init_state,
    make_step,
    make_steps,
)

__all__ = [
    "Evaluation",
    "Hooks",
    "LossFn",
    "Plan",
    "TrainState",
    "init_state",
    "make_step",
    "make_steps",
    "run",
]
