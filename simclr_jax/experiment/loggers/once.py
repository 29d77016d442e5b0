"""Gives a service each number once, whatever is repeated.

W&B and MLflow can't take a number back, but a run that goes on from a checkpoint
repeats the steps after it. So the workdir keeps, for each service, the last step that
it got of each number. That also tells what it lacks: the run's earlier lines, if the
logger is new or has failed before.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simclr_jax.experiment.loggers import Logger, Run, Service, training
from simclr_jax.files import replace

_SAVE_SECONDS = 1.0  # of many lines: what a kill makes it send twice


class Once(Logger):
    """A logger that a service stands behind; it begins there with the first number.

    Args:
      start: begins or continues a run at the service.
      run: describes it; what is known of `id` and `lines` is in the file.
      file: what the service has got.
      began: is told of the run there.
    """

    def __init__(
        self,
        start: Callable[[Run], Service],
        run: Run,
        file: Path,
        began: Callable[[Service], None],
    ):
        self._start, self._run, self._file, self._began = start, run, file, began
        self._service: Service | None = None
        self._saved = file.exists()
        found: Any = json.loads(file.read_text()) if self._saved else {}
        self._id, self._lines = found.get("id"), found.get("lines", 0)
        # By "probe/pretrained/loss": the last step that was sent.
        self._sent: dict[str, int] = found.get("sent", {})
        self._trainings: dict[str, int] = {}
        self._summary: dict[str, float] = found.get("summary", {})

    def begin(self, lines: list[dict[str, Any]], trainings: dict[str, int]) -> None:
        self._trainings = dict(trainings)
        saved = time.monotonic()
        try:
            for line in lines:
                self._write(training(line), line["step"], line)
                if time.monotonic() - saved >= _SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        finally:
            self._save()

    def cut(self, name: str, step: int, number: int) -> None:
        self._trainings[name] = number

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        if self._write(name, step, values):
            self._save()

    def summary(self, values: dict[str, float], step: int) -> None:
        values = {name: value for name, value in values.items() if _is_number(value)}
        if values != self._summary:
            self._at_service().summary(values, step)
            self._summary = values
            self._save()

    def close(self, ended: str) -> None:
        if self._service:
            self._service.close(ended)

    def _write(self, name: str, step: int, values: dict[str, Any]) -> bool:
        """Sends what the service lacks; returns whether there was something."""
        name = self._known(name)
        lacking = {
            tag: value
            for tag, value in values.items()
            if tag not in ("stage", "variant", "step") and _is_number(value)
            if step > self._sent.get(f"{name}/{tag}", -1)
        }
        if not lacking:
            return False
        self._at_service().write(name, step, lacking)
        self._sent |= {f"{name}/{tag}": step for tag in lacking}
        self._lines += 1
        return True

    def _known(self, name: str) -> str:
        """A training's name at the service: "probe/pretrained-2" is the second one."""
        number = self._trainings.get(name, 1)
        return name if number == 1 else f"{name}-{number}"

    def _at_service(self) -> Service:
        if self._service is None:
            run = self._run._replace(id=self._id, lines=self._lines)
            service = self._start(run)
            self._id = service.id
            self._save()  # before anything is sent: the next run goes on with it
            self._began(service)
            service.describe(run.fields)
            self._service = service
        return self._service

    def _save(self) -> None:
        if self._saved and not self._file.exists():
            return  # the workdir has begun anew: this is of the killed run before
        self._saved = True
        names = ("id", "lines", "sent", "summary")
        state = {name: getattr(self, f"_{name}") for name in names}
        replace(self._file, json.dumps(state, indent=1) + "\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
