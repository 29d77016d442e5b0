"""All loggers of a run, as one."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simclr_jax.experiment.loggers import Logger
from simclr_jax.experiment.loggers.apart import Apart
from simclr_jax.experiment.loggers.tensorboard import Writer


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

    def begin(self, lines: list[dict[str, Any]]) -> None:
        for logger in self._loggers:
            logger.begin(lines)

    def cut(self, name: str, step: int) -> None:
        for logger in self._loggers:
            logger.cut(name, step)

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        for logger in self._loggers:
            logger.write(name, step, values)

    def summary(self, values: dict[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.summary(values, step)

    def close(self, ended: str) -> None:
        for logger in self._loggers:
            logger.close(ended)


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
