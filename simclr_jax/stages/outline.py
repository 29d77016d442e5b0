"""What a run is going to do, for someone who looks at the terminal."""

import sys
from collections.abc import Iterable, Iterator

import jax

from simclr_jax import devices
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import STAGES
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import table
from simclr_jax.stages.measurement import Measurement
from simclr_jax.training import terminal


def show(experiment: Experiment, waiting: set[str], images: int) -> None:
    """Prints the plan on stderr, if that is a terminal and something is to be done.

    Args:
      waiting: the stages whose results are not there yet.
      images: how many there are to pretrain on.
    """
    if not waiting or not terminal.is_terminal():
        return
    rows = list(plan(experiment, waiting, images))
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for name, text in rows:
            print(f"{name:<8} {text}", file=sys.stderr)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    for name, text in rows:
        table.add_row(name, text)
    Console(file=sys.stderr, markup=False, highlight=False).print(table)


def plan(
    experiment: Experiment, waiting: set[str], images: int
) -> Iterator[tuple[str, str]]:
    """`(name, text)` of each row: stages, images and steps, device, workdir."""
    config = experiment.config
    stages = (
        x if x in waiting or not STAGES[x].records else f"{x} (done)"
        for x in config.stages
    )
    yield "stages", ", ".join(stages)
    if "pretrain" in waiting:
        to_do, _ = experiment.plan("pretrain", images)
        epochs = to_do.last_step / to_do.steps_per_epoch
        yield (
            "pretrain",
            f"{images:,} images, {table.in_epochs(epochs)}, "
            f"{to_do.last_step:,} steps of {to_do.batch_size:,} images",
        )
    kind = jax.devices()[0].device_kind
    yield "device", kind if devices.count() == 1 else f"{devices.count()} x {kind}"
    yield "workdir", str(experiment.workdir.path)


def not_foretold(config: Config, measurements: Iterable[Measurement]) -> str:
    """What the foretold time of pretraining leaves out: how long it takes shows later.

    It is the end of a sentence, or "".
    """
    others = [x for x in config.stages if STAGES[x].records and not STAGES[x].makes]
    if any(measurement.every_epochs for measurement in measurements):
        others.insert(0, "scores on the way")
    if not others:
        return ""
    *first, last = others
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"; {listed} not counted"
