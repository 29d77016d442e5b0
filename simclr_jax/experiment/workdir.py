"""What a run leaves behind: config.json, metrics.jsonl, results.json, checkpoints.

`metrics.jsonl` and `results.json` are the record of truth; the terminal and
TensorBoard show the same.
"""

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import jax

from simclr_jax.config.fields import Config, to_json
from simclr_jax.config.stages import STAGES
from simclr_jax.config.validate import same_recipe
from simclr_jax.errors import RequestError
from simclr_jax.experiment import tensorboard as events

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def check(path: str | os.PathLike, config: Config) -> None:
    """Raises RequestError if `path` can't hold a run of `config`. Writes nothing.

    A workdir is bound to its recipe once there is something to continue: one that was
    refused, diverged or ran out of memory before its first checkpoint takes another.
    """
    path = Path(path).expanduser()
    if path.exists() and not path.is_dir():
        raise RequestError(f"--workdir: {path} is not a folder")
    recipe = path / "config.json"
    if recipe.exists() and _begun(path):
        made_by = _read(recipe, "--workdir", "take another --workdir")
        same_recipe(made_by, config, str(path))
    results(path)


def _begun(path: Path) -> bool:
    kept = ("checkpoints", "stages", "results.json")
    return any((path / name).exists() for name in kept)


def checkpoints(path: Path, stage: str, variant: str = "") -> Path:
    """The folder of a stage's checkpoints (design: What a run leaves behind)."""
    if stage == "pretrain":
        return path / "checkpoints"
    return path / "stages" / stage / variant / "checkpoints"


def pretraining_folder(config: Config, workdir: str | os.PathLike) -> Path:
    """Where the pretraining checkpoints are that a run uses."""
    return Path(config.pretrained or workdir).expanduser() / "checkpoints"


def teacher_folder(config: Config, workdir: str | os.PathLike) -> Path:
    """Where the checkpoints of the network that teaches are."""
    stage = config.distill.teacher_stage
    return checkpoints(teacher_workdir(config, workdir), stage, STAGES[stage].teaches)


def teacher_workdir(config: Config, workdir: str | os.PathLike) -> Path:
    """The workdir of the network that teaches."""
    return Path(config.distill.teacher or workdir).expanduser()


def results(path: Path, field: str = "--workdir") -> dict[str, Any]:
    """results.json as it stands; empty before the first stage ends.

    Raises:
      RequestError: it is damaged; `field` is what named the workdir.
    """
    path = path / "results.json"
    cure = "delete it, and the workdir's own command makes it again"
    return _read(path, field, cure) if path.exists() else {}


def _read(path: Path, field: str, cure: str) -> dict[str, Any]:
    """The JSON object in a file, else a RequestError that names it."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise RequestError(f"{field}: can't read {path}: {error}; {cure}") from error
    return found


class Workdir:
    """One run's folder: read only until `open`, then locked until `close`.

    Raises:
      RequestError: TensorBoard's events are wanted and can't be written.
    """

    def __init__(self, path: str | os.PathLike, config: Config):
        self.path = Path(path).expanduser()
        self._config = config
        self._tensorboard = events.Writer(self.path) if config.tensorboard else None

    def open(self) -> Self:
        """Makes the folder, locks it and writes config.json.

        Raises:
          RequestError: another process is running in it, it holds a run of another
            recipe, or it can't be written.
        """
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
            if not _begun(path):  # nothing to continue: what was recorded starts again
                (path / "metrics.jsonl").unlink(missing_ok=True)
            _replace(path / "config.json", to_json(config))
        except (OSError, RequestError):
            self._lock.close()
            raise
        return self

    # Checkpoints ------------------------------------------------------------

    def checkpoints(self, stage: str, variant: str = "") -> Path:
        return checkpoints(self.path, stage, variant)

    def forget(self, stage: str, variant: str) -> None:
        """Drops a variant's checkpoints and metrics: it starts again."""
        shutil.rmtree(self.checkpoints(stage, variant), ignore_errors=True)
        self.cut_metrics(stage, variant, step=-1)

    # Metrics ----------------------------------------------------------------

    def record(self, stage: str, variant: str, step: int, **values: Any) -> None:
        """Appends one line to metrics.jsonl."""
        line = {"stage": stage, "variant": variant, "step": step}
        line |= {name: _finite_or_null(value) for name, value in values.items()}
        path = self.path / "metrics.jsonl"
        with _named(path), path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        if self._tensorboard:
            self._tensorboard.write(f"{stage}/{variant}".rstrip("/"), step, values)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that a crash cut in half is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return list(_whole_lines(path.read_text().splitlines()))

    def cut_metrics(self, stage: str, variant: str, *, step: int) -> None:
        """Removes what this variant recorded after `step`, and a half line."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        kept = [
            line
            for line in self.metrics()
            if (line["stage"], line["variant"]) != (stage, variant)
            or line["step"] <= step
        ]
        _replace(path, "".join(json.dumps(line) + "\n" for line in kept))

    # Results ----------------------------------------------------------------

    def results(self) -> dict[str, Any]:
        return results(self.path)

    def add_result(self, stage: str, result: dict[str, Any], config: Config):
        """Sets `stage` in results.json, beside what was run and on what."""
        results = self.results() | {stage: result} | _provenance(config)
        _replace(self.path / "results.json", json.dumps(results, indent=2) + "\n")

    def close(self) -> None:
        if self._tensorboard:
            self._tensorboard.close()
        self._lock.close()


def _finite_or_null(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole_lines(lines: Iterable[str]):
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _replace(path: Path, text: str) -> None:
    """Writes `text` so that a reader finds either the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with _named(path):
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Makes an OSError say where: what a full disk raises does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _provenance(config: Config) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "config": json.loads(to_json(config)),
        "command": shlex.join(["python", *sys.argv]),
        "commit": _commit(),
        "versions": {"python": sys.version.split()[0]}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": device.device_kind,  # one; the others stay idle
        "cpus": _usable_cpus(),
        "seed": config.seed,
    }


def _usable_cpus() -> int | None:
    """Cores that this process may use: `taskset` leaves it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _commit() -> str | None:
    """The checkout's commit, "+dirty" if tracked files differ; None outside one."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
