"""One step maker and one loop for every stage; knows no config and no data set."""

from simclr_jax.training.loop import Hooks, Plan, run
from simclr_jax.training.step import LossFn, TrainState, init_state, make_step

__all__ = [
    "Hooks",
    "LossFn",
    "Plan",
    "TrainState",
    "init_state",
    "make_step",
    "run",
]
