"""One step maker and one loop for every stage; knows no config and no data set."""

from simclr_jax.training.loop import (
    LossFn,
    Plan,
    TrainState,
    init_state,
    make_step,
    run,
)

__all__ = ["LossFn", "Plan", "TrainState", "init_state", "make_step", "run"]
