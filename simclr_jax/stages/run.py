"""Runs a recipe's stages in order, skipping those whose result still holds."""

import copy
import importlib
import sys
from collections.abc import Callable, Collection
from typing import Any

from simclr_jax import data, devices, startup
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import STAGES, having, holds, trained
from simclr_jax.data.fingerprint import changed
from simclr_jax.errors import StoppedError
from simclr_jax.experiment import damaged, fitting, initial, preflight, restore
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import pretraining_images
from simclr_jax.experiment.workdir import Workdir, pretraining_folder
from simclr_jax.processes import check_stop_together
from simclr_jax.report import table, verdict
from simclr_jax.stages import embed, export, outline, pretrain
from simclr_jax.training import terminal


def function(stage: str) -> Callable[[Experiment], dict[str, Any] | bool | None]:
    """The function that runs a stage: the one of its name in `stages/STAGE.py`.

    It returns the stage's entry in results.json, with the pretraining `step` that it
    used if it needs an encoder. If the stage leaves no entry (`Stage.records`), it
    returns whether it wrote something; None means no.
    """
    return getattr(importlib.import_module(f"simclr_jax.stages.{stage}"), stage)


@preflight.naming_fields()  # a stream can fail in the middle of training
def run(config: Config, path: str, given: Collection[str] | None = None) -> None:
    """Runs `config.stages` in the workdir `path`; see launch.py for the exit codes.

    Args:
      given: the fields that someone asked for. Others may be fitted to a small data
        set, see `experiment.fitting`. None: none is.

    Raises:
      RequestError, DivergedError, StoppedError, OSError.
    """
    startup.set_deterministic(config.deterministic)
    asked, config = config, copy.deepcopy(config)
    info = preflight.check(config, path, given)
    for line in (*info.found, *fitting.fit_colours(config, info)):
        print(line, file=sys.stderr, flush=True)
    devices.use(config.devices)
    workdir = Workdir(path, asked)
    experiment = Experiment(config, workdir, info)
    recorded = [stage for stage in config.stages if STAGES[stage].records]
    waiting = {stage for stage in recorded if not result_holds(experiment, stage)}
    if waiting:
        _check_images(experiment, waiting, info, given)
    start = experiment.start
    workdir.open()
    ended = "failed"
    try:
        damaged.write(workdir.path, info.damaged)
        if start is not None:
            _begin(experiment, start)
        _say_what_changed(experiment)
        outline.show(experiment, waiting, pretraining_images(config, info))
        ran = [stage for stage in config.stages if _run_stage(experiment, stage)]
        _say_what_was_done(path, config.stages, ran)
        _say_results(experiment)
        ended = "finished"
    except StoppedError:
        ended = "stopped"
        raise
    finally:
        workdir.close(ended)


def _begin(experiment: Experiment, start: initial.Start) -> None:
    """Says where the run begins. If no pretraining runs, keeps it for the stages."""
    print(start.said, file=sys.stderr, flush=True)
    if initial.serves(experiment.config):
        folder = pretraining_folder(experiment.config, experiment.workdir.path)
        fresh = devices.put(experiment.random_init, devices.whole())
        initial.keep(folder, start, fresh, experiment.meta(0))


def _say_what_was_done(path: str, stages: Collection[str], ran: list[str]) -> None:
    """One line if there was nothing to do, or nothing but a new report.

    Args:
      stages: that the run was asked for.
      ran: those of them that computed or wrote something.
    """
    if not ran:
        print(f"{path}: everything is done already")
    elif ran == ["report"] and len(stages) > 1:
        print(f"{path}: everything but the report is done already")


def _say_results(experiment: Experiment) -> None:
    """The table, what it means, and what to do next."""
    workdir, config = experiment.workdir, experiment.config
    results = workdir.results()
    if shown := table.table(results, config):
        print(shown)
    of_step = results.get("pretrain", {}).get("step") or 0
    workdir.show_results(table.numbers(results, config), of_step)
    if sentence := verdict.verdict(results, config):
        print(sentence)
    if "embed" in config.stages:
        print(f"embeddings: {embed.file(experiment)}")
    if "export" in config.stages:
        for file in export.paths(experiment):
            print(f"encoder: {file}")
    if "report" in config.stages:
        print(f"report: {workdir.path / 'report.html'}")
    if "pretrain" in results:
        # As it can be pasted; the path is this shell's.
        load = f"simclr_jax.load({str(workdir.path)!r})"
        print(f"in Python: import simclr_jax; {load}.embed(['photo.jpg'])")


def _check_images(
    experiment: Experiment,
    waiting: set[str],
    info: data.Info,
    given: Collection[str] | None,
) -> None:
    """Raises RequestError if the labels or the method do not fit the stages.

    It loads them to find out, before anything is computed or written. Once more, fields
    that are not `given` are fitted: now it is known how many images have labels.
    """
    config, images = experiment.config, experiment.images
    stages = set(config.stages)
    if "pretrain" in waiting:
        pretrain.check_method(experiment)
        _warn_of_missing_classes(experiment, info)
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
    if given is not None:
        for line in fitting.fit_batches(config, counts, given):
            print(line, file=sys.stderr, flush=True)
    preflight.check_batches(config, counts)
    if "pretrain" in waiting:
        preflight.check_shares(config)


def _warn_of_missing_classes(experiment: Experiment, info: data.Info) -> None:
    """One line if `data.limit` leaves classes out, as of images sorted by class."""
    fields, source = experiment.config.data, experiment.images.unlabelled
    split = fields.pretrain_split or fields.train_split
    whole = (info.present or {}).get(split, info.num_classes)
    taken = len(set(source.labels.tolist()) - {-1})
    if fields.limit and 0 < taken < min(whole, fields.limit):
        print(
            f"warning: data.limit takes the first {fields.limit} images of {split}, "
            f"which have {taken} of its {whole} classes; are they sorted by class? "
            "Then shuffle them",
            file=sys.stderr,
            flush=True,
        )


def _run_stage(experiment: Experiment, stage: str) -> bool:
    """Runs a stage unless its result holds; returns whether it did anything."""
    check_stop_together()
    config, workdir = experiment.config, experiment.workdir
    if result_holds(experiment, stage):
        return False
    with terminal.working(stage):
        result = function(stage)(experiment)
    if not isinstance(result, dict):
        return bool(result)
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
