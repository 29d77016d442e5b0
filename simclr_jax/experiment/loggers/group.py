"""All loggers of a run, as one."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simclr_jax import signals
from simclr_jax.experiment.loggers import Logger
from simclr_jax.experiment.loggers.apart import Apart
from simclr_jax.experiment.loggers.tensorboard import Writer

# To send what is left. After a signal the machine may be gone soon.
_CLOSE_SECONDS, _STOP_SECONDS = 60.0, 5.0


class Group(Logger):
    """Tells each of its loggers what it is told."""

    def __init__(self, loggers: Iterable[Logger] = ()):
        self._loggers = list(loggers)

    def open(self) -> None:
        try:
            for logger in self._loggers:
                logger.open()
        except BaseException:
            self.close("failed")
            raise

    def begin(self, lines: list[dict[str, Any]], trainings: dict[str, int]) -> None:
        for logger in self._loggers:
            logger.begin(lines, trainings)

    def cut(self, name: str, step: int, number: int) -> None:
        for logger in self._loggers:
            logger.cut(name, step, number)

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        for logger in self._loggers:
            logger.write(name, step, values)

    def summary(self, values: dict[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.summary(values, step)

    def close(self, ended: str) -> None:
        """Waits until all is sent: a minute at most, 5 s after a signal.

        Raises:
          The first error of a logger, if the run has none of its own.
        """
        errors = []
        for logger in self._loggers:
            try:
                logger.close(ended)
            except Exception as error:  # the others are still told
                errors.append(error)
        seconds = _STOP_SECONDS if ended == "stopped" else _CLOSE_SECONDS
        deadline = time.monotonic() + seconds
        while any(logger.sends() for logger in self._loggers):
            if signals.stop_requested():
                deadline = min(deadline, time.monotonic() + _STOP_SECONDS)
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        for logger in self._loggers:
            logger.end()
        if errors and ended == "finished":
            raise errors[0]


def make(path: Path, fields: dict[str, Any]) -> Group:
    """The loggers that a recipe asks for, not opened yet.

    Args:
      path: the workdir.
      fields: the recipe, by the fields' dotted names.

    Raises:
      RequestError: a package is not installed.
    """
    names, loggers = list(fields["loggers"]), []
    if "tensorboard" in names:
        loggers.append(Writer(path, ("loggers", "leave tensorboard out")))
    elif fields["tensorboard"]:
        loggers.append(Writer(path))
    known = {k: v for k, v in fields.items() if v is not None}
    for name in names:
        if name != "tensorboard":
            loggers.append(Apart(name, path, run_name(path), known))
    return Group(loggers)


def run_name(path: Path) -> str:
    """The workdir's name; a sweep's run has its row before it: "lars/seed_0"."""
    path = path.resolve()
    point = re.fullmatch(r"seed_\d+", path.name)
    return f"{path.parent.name}/{path.name}" if point else path.name
