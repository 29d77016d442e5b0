"""Scores that are taken while a training goes on: what a `Training` asks for, and the
`Evaluation` that the loop runs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from simclr_jax.errors import DivergedError
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.training import Evaluation, TrainState
from simclr_jax.training.progress import Progress


class Measurement(NamedTuple):
    """Scores that metrics.jsonl gets every so many epochs of a training.

    Attributes:
      every_epochs: epochs between two; 0: never.
      names: a line of metrics.jsonl that has all of them holds this measurement. If the
        measurement itself diverges, they are recorded as null.
      measure: `state -> scores`, by these names and perhaps more. It must not change
        or donate the state. Two measurements of a step get a line each.
      doing, trains: see `Evaluation`.
    """

    every_epochs: int
    names: tuple[str, ...]
    measure: Callable[[TrainState], dict[str, float]]
    doing: str = "evaluating"
    trains: bool = False


def evaluation(
    measurement: Measurement,
    workdir: Workdir,
    stage: str,
    variant: str,
    progress: Progress,
    steps_per_epoch: int,
    saved: Callable[[], None],
) -> Evaluation:
    """Takes and records a measurement, unless metrics.jsonl has it already.

    Args:
      saved: waits until the state is on disk, as a measurement that trains needs it:
        otherwise a kill could undo its step, and with that its record.
    """
    names = set(measurement.names)
    on_record = {
        line["step"]
        for line in workdir.metrics()
        if (line["stage"], line["variant"]) == (stage, variant) and names <= set(line)
    }

    def run(state: TrainState, step: int) -> None:
        if measurement.trains:
            saved()
        try:
            scores = measurement.measure(state)
        except DivergedError as error:
            # Not a reason to end a training that is fine itself, and that could not
            # get past this step when it is continued.
            progress.warn(
                f"step {step}: {measurement.doing} gave no {measurement.names[0]}: "
                f"{error}"
            )
            scores = dict.fromkeys(measurement.names, math.nan)
        workdir.record(stage, variant, step, epoch=step / steps_per_epoch, **scores)

    return Evaluation(
        measurement.every_epochs * steps_per_epoch,
        run,
        on_record.__contains__,
        measurement.doing,
        measurement.trains,
    )
