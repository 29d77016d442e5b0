"""Reads a network from a workdir, whichever stage trained it. It needs no recipe."""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simclr_jax import checkpoint
from simclr_jax.config.stages import STAGES
from simclr_jax.errors import RequestError, one_line
from simclr_jax.experiment.restore import of_network
from simclr_jax.experiment.workdir import START, checkpoints
from simclr_jax.files import replacing
from simclr_jax.heads import level_names

# The stages that train a network, each with the variant that is read by default.
TRAINED = {"pretrain": ""} | {
    name: stage.teaches for name, stage in STAGES.items() if stage.teaches
}
_TARGET = "target"  # pretraining's second network, its moving average


class Saved(NamedTuple):
    """A network as its checkpoint has it.

    Attributes:
      about: see `description.describe`; also `stage`, `variant`, `step` (of that
        stage), `source_step` (of the pretraining it started from) and, of a network
        with a classifier, `from_layer` (the level that it classifies).
      variables: flax's `{"params", "batch_stats"}` in NumPy, each with the entries
        "encoder", "projector" and, in params, "classifier".
    """

    about: dict[str, Any]
    variables: dict[str, Any]


def read(
    workdir: Path,
    *,
    stage: str = "pretrain",
    variant: str = "",
    step: int | None = None,
) -> Saved:
    """Reads the network that a stage of a run has trained.

    Args:
      workdir: of the run.
      stage, variant: which network; "" is the stage's main one. Of `pretrain`, "target"
        is the moving average.
      step: of its checkpoints; None is the newest.

    Raises:
      FileNotFoundError: the run has no such checkpoint.
      ValueError: no such stage, variant or step, or the checkpoint is damaged.
    """
    if stage == "probe":
        return _probed(workdir, variant or "pretrained", step)
    recipe = _recipe(workdir)
    folder = _folder(workdir, stage, variant, recipe)
    items = {"params": None, "model_state": None}
    try:
        found = checkpoint.restore(
            folder, items, step=step, rename=False, only=of_network
        )
    except RequestError as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise FileNotFoundError(_without(workdir, stage))
    number, trees, meta = found
    if step not in (None, number):
        raise ValueError(f"checkpoint step {step} in {folder} is damaged")
    params, stats = trees["params"], trees["model_state"].get("batch_stats", {})
    if stage == "pretrain" and variant == _TARGET:
        if _TARGET not in trees["model_state"]:
            raise ValueError(f"variant: the pretraining in {workdir} has no target")
        target = trees["model_state"][_TARGET]
        params, stats = target["params"], target.get("batch_stats", {})
    try:
        about = _about(meta, recipe, stage, variant, params)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"checkpoint step {number} in {folder} does not say what this library "
            f"writes: {one_line(error)}"
        ) from error
    names = ["encoder", "projector"]
    names += ["classifier"] if about["from_layer"] is not None else []
    variables = {
        "params": {name: params[name] for name in names if name in params},
        "batch_stats": {name: stats[name] for name in names if name in stats},
    }
    origin = {"stage": stage, "variant": variant, "step": number}
    return Saved(about | origin, variables)


def _without(workdir: Path, stage: str) -> str:
    """That a run has no network of a stage, and of which it has one."""
    present = [
        name
        for name, variant in TRAINED.items()
        if checkpoint.steps(checkpoints(workdir, name, variant))
    ]
    found = f"; it has one of {', '.join(present)}" if present else ""
    return f"{workdir} has no network of stage {stage}{found}"


def _folder(workdir: Path, stage: str, variant: str, recipe: dict[str, Any]) -> Path:
    """The folder of the checkpoints to read."""
    if stage not in TRAINED:
        choices = ", ".join([*TRAINED, "probe"])
        raise ValueError(f"stage: {stage!r} trains no network; choose from {choices}")
    if stage != "pretrain":
        folder = checkpoints(workdir, stage, variant or TRAINED[stage])
        there = folder.parents[1]
        variants = sorted(x.name for x in there.iterdir()) if there.is_dir() else []
        if variants and not folder.is_dir():
            raise ValueError(
                f"variant: {there} has no {folder.parent.name!r}, only "
                f"{', '.join(variants)}"
            )
        return folder
    if variant not in ("", _TARGET):
        raise ValueError(f"variant: {variant!r} of pretrain is not '' or 'target'")
    places = [workdir]
    if recipe.get("pretrained"):
        places.append(Path(recipe["pretrained"]).expanduser())
    folders = [x for p in places for x in (checkpoints(p, stage), p / START)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def keep_probe(
    workdir: Path,
    variant: str,
    about: dict[str, Any],
    classifier: dict[str, np.ndarray],
) -> None:
    """Writes a probe's classifier, for features that nobody standardised.

    Args:
      workdir, variant: where; a reader sees the old file or the new one.
      about: as in a checkpoint, and the `level` of the features.
      classifier: `{"kernel" [D, C], "bias" [C]}`.
    """
    path = _probe_file(workdir, variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        kernel, bias = classifier["kernel"], classifier["bias"]
        np.savez(file, about=json.dumps(about), kernel=kernel, bias=bias)


def _probe_file(workdir: Path, variant: str) -> Path:
    return workdir / "stages" / "probe" / variant / "classifier.npz"


def _probed(workdir: Path, variant: str, step: int | None) -> Saved:
    """The encoder that was probed, with the probe's classifier on its level."""
    path = _probe_file(workdir, variant)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}: stage 'probe' has not run, or in an older version, "
            "or it probed no such network"
        )
    if step is not None:
        raise ValueError("step: a probe keeps its last classifier only; leave it out")
    try:
        with np.load(path) as archive:  # it checks the content's checksums
            made = json.loads(str(archive["about"]))
            dense = {name: archive[name] for name in ("kernel", "bias")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"can't read {path}: {one_line(error)}") from error
    probed = _TARGET if variant == _TARGET else ""
    network = read(workdir, variant=probed, step=made["source_step"])
    levels = level_names(network.about["projector"]["layers"])
    origin = {
        "stage": "probe",
        "variant": variant,
        "from_layer": levels.index(made["level"]),
        "class_names": made["class_names"],
    }
    params = network.variables["params"] | {"classifier": {"dense": dense}}
    return Saved(network.about | origin, network.variables | {"params": params})


def _recipe(workdir: Path) -> dict[str, Any]:
    """The run's config.json; empty where there is none."""
    path = workdir / "config.json"
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"can't read {path}: {error}") from error


def _about(
    meta: dict[str, Any], recipe: dict[str, Any], stage: str, variant: str, params: Any
) -> dict[str, Any]:
    """The checkpoint's description. What an older one lacks comes from the weights and
    the recipe; class names that nobody stored are "0", "1", ..."""
    about = {name: value for name, value in meta.items() if name != "seconds"}
    classes = 0
    if stage == "pretrain":
        about["from_layer"] = None
    else:
        classes = len(params["classifier"]["dense"]["bias"])
        layer = recipe.get("finetune", {}).get("from_layer", 0)
        about.setdefault("from_layer", layer if stage == "finetune" else 0)
    if len(about.get("class_names", ())) != classes and classes:
        about["class_names"] = [str(number) for number in range(classes)]
    if "size" in about:
        return about
    if not recipe:
        raise ValueError(
            "the checkpoint is from an older version, which kept the images' size in "
            "the workdir's config.json, and that is missing"
        )
    section = "finetune" if (stage, variant) == ("distill", "random_init") else stage
    fields = recipe if stage == "pretrain" else recipe[section]
    stored = recipe["data"].get("stored_size", 0)
    older = {
        "precision": recipe.get("precision", "float32"),
        "channels": _channels(params["encoder"]),
        "size": fields["augment"]["size"],
        "preprocessing": {
            "view": "center",
            "stored": [stored, stored] if stored else None,
        },
        "data": recipe["data"]["name"],
        "class_names": [],
        "method": recipe["method"]["name"],
    }
    return older | about


def _channels(encoder: Any) -> int:
    """Of the images, from the first kernel [height, width, channels, filters]."""
    stem = next(name for name in ("stem_conv", "stem_conv1") if name in encoder)
    return int(np.shape(encoder[stem]["kernel"])[2])
