"""Stage `report`: writes report.html from the results so far. It adds no result."""

from simclr_jax import processes
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import page


def report(experiment: Experiment) -> bool:
    """Writes report.html into the workdir; returns whether it has changed."""
    file = experiment.workdir.path / "report.html"
    before = file.read_bytes() if file.is_file() else None
    page.write(experiment)
    return processes.first() and file.read_bytes() != before
