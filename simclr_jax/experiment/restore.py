"""Restores the networks of a pretraining checkpoint for the stages that use them."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from simclr_jax import checkpoint
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import STAGES
from simclr_jax.encoders import ResNet
from simclr_jax.errors import RequestError
from simclr_jax.experiment.workdir import pretraining_folder, teacher_folder
from simclr_jax.heads import Projector

# What later stages take from a checkpoint.
_NETWORK = ("encoder", "projector")
_OF_NETWORK = re.compile(
    "(params|model_state/batch_stats|model_state/target/(params|batch_stats))/"
    "(encoder|projector|classifier)/"
)


class Restored(NamedTuple):
    """The newest pretraining checkpoint of a workdir or of `config.pretrained`."""

    step: int
    params: Any
    model_state: Any

    def online(self, abstract: tuple[Any, Any]) -> tuple[int, Any, Any]:
        """`(step, params, model_state)` of encoder and projector alone.

        Args:
          abstract: `(params, model_state)` with the recipe's shapes.

        Raises:
          RequestError: the checkpoint has other shapes.
        """
        stats = self.model_state["batch_stats"]
        return self.step, *_network(abstract, self.params, stats)

    def target(self, abstract: tuple[Any, Any]) -> tuple[int, Any, Any]:
        """Like `online`, from the target network (moco, byol, simclr with a memory)."""
        if "target" not in self.model_state:
            raise RequestError("config.probe.target: the checkpoint has no target")
        target = self.model_state["target"]
        found = _network(abstract, target["params"], target["batch_stats"])
        return self.step, *found


def of_network(leaf: str) -> bool:
    """Whether a later stage may need a leaf of `params` or `model_state`.

    It needs no queue of MoCo's, and nothing that a stranger has put beside the network.
    """
    return _OF_NETWORK.match(leaf) is not None


def read(config: Config, workdir: Path) -> Restored:
    """Raises RequestError if there is no checkpoint, or one of another network."""
    directory = pretraining_folder(config, workdir)
    like = {"params": None, "model_state": None}
    restored = checkpoint.restore(
        directory, like, rename=not config.pretrained, only=of_network
    )
    if restored is None:
        raise RequestError(no_checkpoint(directory))
    step, items, meta = restored
    check_network(meta, config, directory)
    return Restored(step, items["params"], items["model_state"])


def _network(abstract: tuple[Any, Any], params: Any, stats: Any) -> tuple[Any, Any]:
    """`(params, model_state)` of encoder and projector, with their shapes checked."""
    params, stats = (
        {part: matching(want[part], have, part) for part in _NETWORK}
        for want, have in (
            (abstract[0], params),
            (abstract[1]["batch_stats"], stats),
        )
    )
    return params, {"batch_stats": stats}


def matching(abstract: Any, stored: Any, name: str, where: str = "") -> Any:
    """`stored[name]` if it has the shapes of `abstract`, else a RequestError.

    Args:
      name: in the first call a section of the recipe, "encoder" or "projector".
      where: the names above it.
    """
    where = f"{where}.{name}".lstrip(".")
    field = f"config.{where.partition('.')[0]}"
    if isinstance(abstract, dict):
        stored = stored.get(name, {})  # Orbax omits empty dicts
        return {key: matching(abstract[key], stored, key, where) for key in abstract}
    if name not in stored:
        raise RequestError(f"{field}: the checkpoint has no {where}")
    stored = stored[name]
    if abstract.shape != stored.shape:
        raise RequestError(
            f"{field}: {where} is {stored.shape} in the checkpoint, "
            f"{abstract.shape} in the recipe"
        )
    return stored


def origin(
    stage: str, config: Config, workdir: str | os.PathLike
) -> dict[str, int] | None:
    """The steps of the newest checkpoints that a stage needs; see `stages.holds`.

    Returns:
      `step` is the pretraining's and `teacher_step` the teacher's. Empty if the stage
      needs no checkpoint; None if it needs one that does not exist yet.
    """
    follows = STAGES[stage].follows
    if not follows:
        return {}
    from_teacher = follows == "teacher"
    folder = (teacher_folder if from_teacher else pretraining_folder)(config, workdir)
    steps = checkpoint.steps(folder)
    if not from_teacher:
        return {"step": steps[-1]} if steps else None
    meta = checkpoint.read_meta(folder)
    if meta is None:
        return None
    return {"teacher_step": steps[-1], "step": meta["source_step"]}


def no_checkpoint(directory: Path) -> str:
    """The message if stages have no pretraining checkpoint to start from."""
    return (
        f"config.stages: no pretraining checkpoint in {directory}; run stage "
        "'pretrain' there first, or name a workdir that has one in config.pretrained"
    )


def no_teacher(config: Config, folder: Path) -> str:
    """The message if a distillation has no teacher."""
    stage = config.distill.teacher_stage
    if config.distill.teacher:
        return (
            f"config.distill.teacher: no checkpoint of stage {stage} in {folder}; run "
            "that stage there, or name another config.distill.teacher_stage"
        )
    return (
        f"config.stages: distill has no teacher, because {folder} does not exist; put "
        f"{stage!r} before 'distill', or name a workdir in config.distill.teacher"
    )


def check_network(meta: dict, config: Config, directory) -> None:
    """Raises RequestError if the checkpoint has another network than the recipe.

    A field that is newer than the checkpoint counts as the default of its class.
    """
    for section, network in (("encoder", ResNet), ("projector", Projector)):
        defaults = {field.name: field.default for field in dataclasses.fields(network)}
        for name, value in config[section].items():
            if name == "init_scheme":  # matters only before training
                continue
            made = (defaults | meta[section]).get(name)
            if made != value:
                raise RequestError(
                    f"config.{section}.{name}: the checkpoint in {directory} has "
                    f"{made!r}, the recipe has {value!r}"
                )
