"""Stage `report`: writes report.html from the results so far. It adds no result."""

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import page


def report(experiment: Experiment) -> None:
    """Writes report.html into the workdir."""
    page.write(experiment)
