"""Runs a recipe's stages in order, skipping those whose result still holds."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from simclr_jax import data, devices, startup
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import STAGES, having, holds, trained
from simclr_jax.data.fingerprint import changed
from simclr_jax.experiment import preflight, restore
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import pretraining_images
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.processes import check_stop_together
from simclr_jax.report import table, verdict
from simclr_jax.stages import outline, pretrain
from simclr_jax.training import terminal


def function(stage: str) -> Callable[[Experiment], dict[str, Any] | None]:
    """The function that runs a stage: the one of its name in `stages/STAGE.py`.

    It returns the stage's entry in results.json, with the pretraining `step` that it
    used if it needs an encoder. It returns None if the stage leaves no entry
    (`Stage.records`).
    """
    return getattr(importlib.import_module(f"simclr_jax.stages.{stage}"), stage)


@preflight.naming_fields()  # a stream can fail in the middle of training
def run(config: Config, path: str) -> None:
    """Runs `config.stages` in the workdir `path`; see launch.py for the exit codes.

    Raises:
      RequestError, DivergedError, StoppedError, OSError.
    """
    startup.set_deterministic(config.deterministic)
    info = preflight.check(config, path)
    for line in info.found:
        print(line, file=sys.stderr, flush=True)
    devices.use(config.devices)
    workdir = Workdir(path, config)
    experiment = Experiment(config, workdir, info)
    recorded = [stage for stage in config.stages if STAGES[stage].records]
    waiting = {stage for stage in recorded if not result_holds(experiment, stage)}
    if waiting:
        _check_images(experiment, waiting, info)
    workdir.open()
    _say_what_changed(experiment)
    outline.show(experiment, waiting, pretraining_images(config, info))
    try:
        ran = [stage for stage in config.stages if _run_stage(experiment, stage)]
        if not ran:
            print(f"{path}: everything is done already")
        _say_results(workdir, config)
    finally:
        workdir.close()


def _say_results(workdir: Workdir, config: Config) -> None:
    """The table, what it means, and what to do next."""
    results = workdir.results()
    print(table.table(results, config))
    if sentence := verdict.verdict(results, config):
        print(sentence)
    if "export" in config.stages:
        print(f"encoder: {workdir.path / 'encoder.safetensors'}")
    if "report" in config.stages:
        print(f"report: {workdir.path / 'report.html'}")
    if "pretrain" in results:
        # As it can be pasted; the path is this shell's.
        load = f"simclr_jax.load({str(workdir.path)!r})"
        print(f"in Python: import simclr_jax; {load}.embed(['photo.jpg'])")


def _check_images(experiment: Experiment, waiting: set[str], info: data.Info) -> None:
    """Raises RequestError if the labels or the method do not fit the stages.

    It loads them to find out, before anything is computed or written.
    """
    config, images = experiment.config, experiment.images
    stages = set(config.stages)
    if "pretrain" in waiting:
        preflight.check_shares(config)
        pretrain.check_method(experiment)
        stages = trained(config)
    labelled = any(STAGES[stage].labels for stage in stages)
    counts = {"pretrain": pretraining_images(config, info)}
    if labelled:
        images.require_labels()
        counts["supervised"] = int((images.train.labels >= 0).sum())
        counts["probe"] = len(images.labelled_indices("probe"))
        # Only stages that need a list of names read it.
        if stages & having(labels="finetune"):
            counts["finetune"] = len(images.labelled_indices("finetune"))
    preflight.check_batches(config, counts)


def _run_stage(experiment: Experiment, stage: str) -> bool:
    """Runs a stage unless its result holds; returns whether it computed anything."""
    check_stop_together()
    config, workdir = experiment.config, experiment.workdir
    if result_holds(experiment, stage):
        return False
    with terminal.working(stage):
        result = function(stage)(experiment)
    if result is None:
        return False
    seen = {
        "max_steps": config.max_steps,
        "data": experiment.fingerprints(test=True),
    }
    workdir.add_result(stage, result | seen, config)
    return True


def result_holds(experiment: Experiment, stage: str) -> bool:
    """Whether running the stage again would give its entry in results.json."""
    config, workdir = experiment.config, experiment.workdir
    result = workdir.results().get(stage)
    origin = restore.origin(stage, config, workdir.path)
    if not holds(result, config.max_steps, origin):
        return False
    # A finished pretraining stays what it is; what is measured on new images is new.
    return bool(STAGES[stage].makes) or not _change(experiment, result)


def _change(experiment: Experiment, result: Any) -> str:
    return changed(result.get("data", {}), experiment.fingerprints(test=True))


def _say_what_changed(experiment: Experiment) -> None:
    """One line if results are of other images."""
    results = experiment.workdir.results()
    stages = (x for x in experiment.config.stages if not STAGES[x].makes)
    entries = (results.get(stage, {}) for stage in stages)
    if what := next(filter(None, (_change(experiment, x) for x in entries)), ""):
        print(
            f"warning: the images have changed: {what}; measuring again",
            file=sys.stderr,
        )
