"""Stage `export`: writes the pretrained encoder into one file. It adds no result."""

from pathlib import Path

from simclr_jax import checkpoint, processes
from simclr_jax.experiment import saved
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import pretraining_folder
from simclr_jax.export import safetensors

FILE = "encoder.safetensors"


def export(experiment: Experiment) -> None:
    """Writes encoder.safetensors, unless it has the newest pretraining step already."""
    _write(experiment)


@processes.first_only
def _write(experiment: Experiment) -> None:
    folder = pretraining_folder(experiment.config, experiment.workdir.path)
    path = experiment.workdir.path / FILE
    newest = checkpoint.steps(folder)[-1:]
    if newest == [_step(path)]:
        return
    safetensors.save(path, *saved.read(folder.parent))


def _step(path: Path) -> int | None:
    """The step of the encoder in the file; None: the file has to be written."""
    try:
        return safetensors.read_about(path)["step"]
    except (OSError, ValueError, KeyError):
        return None
