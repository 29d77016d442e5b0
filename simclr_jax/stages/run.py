"""Runs a recipe's stages in order, skipping those whose result still holds."""

from collections.abc import Callable
from typing import Any

from simclr_jax import checkpoint, data
from simclr_jax.config.validate import Config
from simclr_jax.experiment import preflight
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.preflight import (
    FROM_CHECKPOINT,
    FROM_LABELS,
    pretraining_folder,
    teacher_folder,
)
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.report import page as report_page
from simclr_jax.report import table as report
from simclr_jax.signals import check_stop
from simclr_jax.stages import distill, finetune, pretrain, probe

Stage = Callable[[Experiment], dict[str, Any]]

_STAGES: dict[str, Stage] = {
    "pretrain": pretrain.pretrain,
    "knn": probe.knn,
    "probe": probe.probe,
    "finetune": finetune.finetune,
    "supervised": finetune.supervised,
    "distill": distill.distill,
}


@preflight.naming_fields()  # a stream can fail in the middle of training
def run(config: Config, path: str) -> None:
    """Runs `config.stages` in the workdir `path`; see launch.py for the exit codes.

    Raises:
      RequestError, DivergedError, StoppedError, OSError.
    """
    info = preflight.check(config, path)
    workdir = Workdir(path, config)
    experiment = Experiment(config, workdir, info)
    computed = [stage for stage in config.stages if stage != "report"]
    waiting = {stage for stage in computed if not _holds(experiment, stage)}
    if waiting:
        _check_images(experiment, waiting, info)
    workdir.open()
    try:
        ran = [stage for stage in config.stages if _run_stage(experiment, stage)]
        if not ran:
            print(f"{path}: everything is done already")
        print(report.table(workdir.results(), config))
        if "report" in config.stages:
            print(f"report: {workdir.path / 'report.html'}")
    finally:
        workdir.close()


def _check_images(experiment: Experiment, waiting: set[str], info: data.Info) -> None:
    """Raises RequestError for what only the labels or the method itself can tell.

    Before hours of work, and before anything is written.
    """
    config, images = experiment.config, experiment.images
    if "pretrain" in waiting:
        pretrain.check_method(experiment)
    counts = {"pretrain": preflight.pretraining_images(config, info)}
    if waiting - {"pretrain"} or config.probe.every_epochs:
        images.require_labels()
        counts["supervised"] = int((images.train.labels >= 0).sum())
        counts["probe"] = len(images.labelled_indices("probe"))
        # A list of names is read for those that have a use for it.
        if set(config.stages) & set(FROM_LABELS):
            counts["finetune"] = len(images.labelled_indices("finetune"))
    preflight.check_batches(config, counts)


def _run_stage(experiment: Experiment, stage: str) -> bool:
    """Whether anything had to be done."""
    check_stop()
    config, workdir = experiment.config, experiment.workdir
    if stage == "report":
        report_page.write(experiment)
        return False
    if _holds(experiment, stage):
        return False
    result = _STAGES[stage](experiment)
    workdir.add_result(stage, result | {"max_steps": config.max_steps}, config)
    return True


def _holds(experiment: Experiment, stage: str) -> bool:
    """Whether results.json's entry is what running the stage again would give."""
    config, workdir = experiment.config, experiment.workdir
    result = workdir.results().get(stage)
    if result is None or result.get("max_steps") != config.max_steps:
        return False
    if stage == "distill":
        folder = teacher_folder(config, workdir.path)
        steps, meta = checkpoint.steps(folder), checkpoint.read_meta(folder)
        taught_by = (result["teacher_step"], result["step"])
        return meta is not None and taught_by == (steps[-1], meta["source_step"])
    if stage == "pretrain":
        steps = checkpoint.steps(workdir.checkpoints("pretrain"))
    elif stage in FROM_CHECKPOINT:
        steps = checkpoint.steps(pretraining_folder(config, workdir.path))
    else:
        return True
    return bool(steps) and steps[-1] == result["step"]
