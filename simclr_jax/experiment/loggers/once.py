"""Gives a service each number once, whatever is repeated.

W&B and MLflow can't take a number back, but a run that goes on from a checkpoint
repeats the steps after it. So the workdir keeps, for each service, the last step that
it got of each number. That also tells what it lacks: the run's earlier lines, if the
logger is new or has failed before.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simclr_jax.experiment.loggers import Logger, Run, Service, training
from simclr_jax.files import replace


class Once(Logger):
    """A logger that a service stands behind; it begins there with the first number.

    Args:
      start: begins or continues a run at the service.
      run: describes it; what is known of `id` and `lines` is in the file.
      file: what the service has got.
      say: is told where the run can be seen.
    """

    def __init__(
        self,
        start: Callable[[Run], Service],
        run: Run,
        file: Path,
        say: Callable[[str], None],
    ):
        self._start, self._run, self._file, self._say = start, run, file, say
        self._service: Service | None = None
        found: Any = json.loads(file.read_text()) if file.exists() else {}
        self._id, self._lines = found.get("id"), found.get("lines", 0)
        # By "probe/pretrained/loss": the last step that was sent.
        self._sent: dict[str, int] = found.get("sent", {})
        # By "probe/pretrained": how many trainings the workdir had by that name.
        self._trainings: dict[str, int] = found.get("trainings", {})
        self._summary: dict[str, float] = found.get("summary", {})

    def begin(self, lines: list[dict[str, Any]]) -> None:
        try:
            for line in lines:
                self._write(training(line), line["step"], line)
        finally:
            self._save()

    def cut(self, name: str, step: int) -> None:
        known = self._known(name)
        if step < 0 and any(sent.startswith(f"{known}/") for sent in self._sent):
            self._trainings[name] = self._trainings.get(name, 1) + 1
            self._save()

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
            self._service = self._start(run)
            self._id = self._service.id
            self._save()  # before anything is sent: the next run goes on with it
            if self._service.where:
                self._say(self._service.where)
        return self._service

    def _save(self) -> None:
        names = ("id", "lines", "sent", "trainings", "summary")
        state = {name: getattr(self, f"_{name}") for name in names}
        replace(self._file, json.dumps(state, indent=1) + "\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
