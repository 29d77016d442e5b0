"""Stage `report`: report.html of what there is. It leaves no result of its own."""

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import page


def report(experiment: Experiment) -> None:
    """Writes report.html into the workdir."""
    page.write(experiment)
