"""The files of a run: config.json, metrics.jsonl, results.json, checkpoints.

`metrics.jsonl` and `results.json` are the record; the terminal and the loggers show the
same numbers. Of several processes only process 0 reads and writes here: the others get
what it has read.
"""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

from simclr_jax import processes
from simclr_jax.config import sizes
from simclr_jax.config.fields import Config, flatten, to_json
from simclr_jax.config.stages import STAGES
from simclr_jax.config.validate import same_recipe
from simclr_jax.errors import RequestError, refused
from simclr_jax.experiment import provenance, record
from simclr_jax.experiment.loggers import group, training
from simclr_jax.experiment.results import read_object, results
from simclr_jax.files import replace

# Where a run without a pretraining keeps the weights that it began with.
START = "start"


@processes.agreed
def check(path: str | os.PathLike, config: Config) -> None:
    """Raises RequestError if `path` can't hold a run of `config`. Writes nothing.

    Once a run has saved a checkpoint, its workdir accepts only that recipe. A run that
    was rejected, diverged or ran out of memory before that leaves it open to others.
    """
    if why := refused(path):
        raise RequestError(f"--workdir: can't use {path}: {why}")
    path = Path(path).expanduser()
    if path.exists() and not path.is_dir():
        raise RequestError(f"--workdir: {path} is not a folder")
    if _begun(path):
        same_recipe(_recipe(path), config, str(path))
    results(path)


def settle(path: str | os.PathLike, config: Config) -> list[str]:
    """Sets the sizes that `config` leaves unset, and returns lines to show.

    It comes before `check`. See `sizes.settle`.
    """
    return sizes.settle(config, _made(path))


@processes.agreed
def _made(path: str | os.PathLike) -> dict[str, Any]:
    """config.json of the run in `path`; {} if there is none, or `check` refuses it."""
    try:
        path = Path(path).expanduser()
        return _recipe(path) if _begun(path) else {}
    except (OSError, ValueError, RuntimeError, RequestError):
        return {}


def _recipe(path: Path) -> dict[str, Any]:
    """The fields of the recipe whose run `path` holds."""
    recipe = path / "config.json"
    if recipe.exists():
        return read_object(recipe, "--workdir", "use another --workdir")
    # Without it, another recipe would go on with these checkpoints.
    made_by = results(path).get("config")
    if not isinstance(made_by, dict):
        raise RequestError(
            f"--workdir: {path} has checkpoints, but no config.json that says of which "
            "recipe; put it back, or use another --workdir"
        )
    return made_by


def _begun(path: Path) -> bool:
    kept = ("checkpoints", START, "stages", "results.json")
    return any((path / name).exists() for name in kept)


def checkpoints(path: Path, stage: str, variant: str = "") -> Path:
    """The folder of a stage's checkpoints."""
    if stage == "pretrain":
        return path / "checkpoints"
    return path / "stages" / stage / variant / "checkpoints"


def pretraining_folder(config: Config, workdir: str | os.PathLike) -> Path:
    """The folder of the pretraining checkpoints that a run uses.

    Without a pretraining it is that of the weights of `config.init_from`.
    """
    path = Path(config.pretrained or workdir).expanduser()
    own = path / "checkpoints"
    if own.is_dir() or ("pretrain" in config.stages and not config.pretrained):
        return own
    begun = (path / START).is_dir() or config.init_from
    return path / START if begun else own


def teacher_folder(config: Config, workdir: str | os.PathLike) -> Path:
    """The folder of the teacher's checkpoints."""
    stage = config.distill.teacher_stage
    return checkpoints(teacher_workdir(config, workdir), stage, STAGES[stage].teaches)


def teacher_workdir(config: Config, workdir: str | os.PathLike) -> Path:
    """The teacher's workdir."""
    return Path(config.distill.teacher or workdir).expanduser()


def _tidy(path: Path) -> None:
    """Deletes what a killed run left among the checkpoints."""
    from simclr_jax import checkpoint  # Orbax: not for a refusal

    below = path.glob("stages/**/checkpoints")
    for folder in (path / "checkpoints", path / START, *below):
        checkpoint.tidy(folder)


class Workdir:
    """One run's folder: nothing is written before `open`; `close` ends its lock.

    Raises:
      RequestError: a package of `config.loggers` is not installed.
    """

    def __init__(self, path: str | os.PathLike, config: Config):
        self.path = Path(path).expanduser()
        self._config = config
        self._loggers = (
            group.make(self.path, dict(flatten(config)))
            if processes.first()
            else group.Group()
        )

    def open(self) -> Self:
        """Opens the folder: see `_open`. All processes wait for it."""
        processes.agree(self._open)
        return self

    def _open(self) -> None:
        """Makes the folder, locks it and writes config.json.

        Raises:
          RequestError: another process is using it, it has a run of another recipe, it
            can't be written, or a logger can't write.
        """
        self._loggers.open()  # the first: it may refuse
        try:
            self._lock_and_tidy()
            lines, trainings = self.metrics(), record.trainings(self.path)
            self._loggers.begin(lines, trainings)
        except BaseException:
            self._loggers.close("failed")
            raise

    def _lock_and_tidy(self) -> None:
        path, config = self.path, self._config
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("w")
        except OSError as error:
            raise RequestError(f"--workdir: can't write {path}: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RequestError(f"--workdir: another run is using {path}") from error
        try:
            check(path, config)
            _tidy(path)
            if not _begun(path):  # nothing to continue: the metrics start anew
                (path / "metrics.jsonl").unlink(missing_ok=True)
                record.forget(path)
            replace(path / "config.json", to_json(config))
        except (OSError, RequestError):
            self._lock.close()
            raise

    # Checkpoints ------------------------------------------------------------

    def checkpoints(self, stage: str, variant: str = "") -> Path:
        return checkpoints(self.path, stage, variant)

    @processes.first_only
    def forget(self, stage: str, variant: str) -> None:
        """Deletes a variant's checkpoints and metrics, so that it starts anew."""
        self.cut_metrics(stage, variant, step=-1)
        # The last: what is killed before is forgotten again.
        shutil.rmtree(self.checkpoints(stage, variant), ignore_errors=True)

    # Metrics ----------------------------------------------------------------

    @processes.first_only
    def record(self, stage: str, variant: str, step: int, **values: Any) -> None:
        """Appends one line to metrics.jsonl."""
        line = {"stage": stage, "variant": variant, "step": step}
        record.add(self.path / "metrics.jsonl", line | values)
        self._loggers.write(training(line), step, values)

    @processes.agreed
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, but for those that are not whole."""
        return record.lines(self.path / "metrics.jsonl")

    @processes.first_only
    def cut_metrics(self, stage: str, variant: str, *, step: int) -> None:
        """Removes this variant's lines after `step`, and what is no whole line.

        Below 0 another training begins.
        """
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [
                line
                for line in self.metrics()
                if (line["stage"], line["variant"]) != (stage, variant)
                or line["step"] <= step
            ]
            record.keep(path, kept)
        name = training({"stage": stage, "variant": variant})
        counted = record.trainings(self.path).get(name, 1)
        number = record.count(self.path, name) if step < 0 else counted
        self._loggers.cut(name, step, number)

    # Results ----------------------------------------------------------------

    def results(self) -> dict[str, Any]:
        return results(self.path)

    @processes.first_only
    def add_result(self, stage: str, result: dict[str, Any], config: Config):
        """Sets `stage` in results.json, next to the config and the provenance."""
        made_by = {"config": json.loads(to_json(config))}
        made_by |= provenance.collect() | {"seed": config.seed}
        results = self.results() | {stage: result} | made_by
        replace(self.path / "results.json", json.dumps(results, indent=2) + "\n")

    @processes.first_only
    def show_results(self, values: dict[str, float], step: int) -> None:
        """Gives the loggers the numbers of the table, of that step of pretraining."""
        self._loggers.summary(values, step)

    @processes.first_only
    def close(self, ended: str = "finished") -> None:
        """Ends the run; for `ended` see `Logger.close`."""
        try:
            self._loggers.close(ended)
        finally:
            self._lock.close()
