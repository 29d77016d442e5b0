"""Stage `report`: writes report.html from the results so far. It adds no result."""

from pathlib import Path

from simclr_jax import processes
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import page


def report(experiment: Experiment) -> bool:
    """Writes report.html into the workdir; returns whether it has changed."""
    file = experiment.workdir.path / "report.html"
    before = _content(file)
    page.write(experiment)
    return _content(file) != before


@processes.first_only
def _content(file: Path) -> bytes:
    """The other processes may not see the workdir: for them nothing has changed."""
    return file.read_bytes() if file.is_file() else b""
