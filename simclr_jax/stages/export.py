"""Stage `export`: writes the pretrained encoder into files. It adds no result."""

import json
import sys
from pathlib import Path
from typing import Any

from simclr_jax import checkpoint, pretrained, processes
from simclr_jax.errors import RequestError
from simclr_jax.experiment import saved
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import pretraining_folder
from simclr_jax.export import formats, safetensors, torch
from simclr_jax.files import replace

FILE = formats.FORMATS["safetensors"].file
_WRITTEN = Path("stages", "export", "written.json")


def export(experiment: Experiment) -> bool:
    """Writes encoder.safetensors and the files of `config.export.formats`, unless they
    have the newest pretraining step already.

    Returns:
      Whether this process wrote a file.
    """
    return bool(_write(experiment))


def paths(experiment: Experiment) -> list[Path]:
    """The files that the stage writes."""
    names = experiment.config.export.formats
    return [experiment.workdir.path / formats.FORMATS[name].file for name in names]


@processes.first_only
def _write(experiment: Experiment) -> bool:
    fields, workdir = experiment.config.export, experiment.workdir.path
    folder = pretraining_folder(experiment.config, workdir)
    newest = checkpoint.steps(folder)[-1]
    written = _written(workdir)
    encoder, wrote = None, False
    for form, path in zip(fields.formats, paths(experiment), strict=True):
        if form == "safetensors":  # which says itself of which step it is
            if _step(path) != newest:
                # Not by `load`: the network may be too large for one device.
                safetensors.save(path, *saved.read(folder.parent))
                wrote = True
            continue
        made: dict[str, Any] = {"step": newest}
        if formats.FORMATS[form].program:
            made["preprocessing"] = fields.preprocessing
        if path.exists() and written.get(form) == made:
            continue
        encoder = encoder or pretrained.load(folder.parent)
        try:
            formats.save(path, encoder, form, preprocessing=fields.preprocessing)
        except ValueError as error:
            raise RequestError(f"config.export.formats: {form}: {error}") from error
        if form == "torch" and (what := torch.differs(encoder)):
            print(what, file=sys.stderr, flush=True)
        wrote, written[form] = True, made
        (workdir / _WRITTEN).parent.mkdir(parents=True, exist_ok=True)
        replace(workdir / _WRITTEN, json.dumps(written))
    return wrote


def _step(path: Path) -> int | None:
    """The step of the encoder in the file; None: the file has to be written."""
    try:
        return safetensors.read_about(path)["step"]
    except (OSError, ValueError, KeyError):
        return None


def _written(workdir: Path) -> dict[str, Any]:
    """What the other files hold."""
    try:
        return dict(json.loads((workdir / _WRITTEN).read_text()))
    except (OSError, ValueError, TypeError):
        return {}
