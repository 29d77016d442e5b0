"""Reads results.json of a workdir."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simclr_jax import processes
from simclr_jax.config.stages import STAGES
from simclr_jax.errors import RequestError, one_line

# What is read of a stage's result: these numbers, of itself and of its variants.
_VARIANTS = ("pretrained", "random_init", "target", "student", "second", "layers")
_NUMBERS = {"top1", "top3", "top5", "step", "loss", "epochs", "seconds"}


@processes.agreed
def results(path: Path, field: str = "--workdir") -> dict[str, Any]:
    """The content of results.json; empty before the first stage ends.

    Raises:
      RequestError: it is damaged. The message names `field`, which gave the workdir.
    """
    path = path / "results.json"
    cure = "delete it and run the workdir's command again to rebuild it"
    return read_object(path, field, cure, _require) if path.exists() else {}


def _require(found: dict[str, Any]) -> None:
    for stage in found.keys() & STAGES.keys():
        _require_result(stage, found[stage])


def _require_result(where: str, result: Any) -> None:
    """Raises ValueError unless a result has the form in which others read it."""
    if not isinstance(result, dict):
        raise ValueError(f"{where} is not a JSON object")
    for name, value in result.items():
        if name in _VARIANTS:
            _require_result(f"{where}.{name}", value)
        elif name in _NUMBERS and not isinstance(value, int | float | None):
            raise ValueError(f"{where}.{name} is not a number")


def read_object(
    path: Path,
    field: str,
    cure: str,
    require: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The JSON object in a file, or a RequestError that names the file.

    `require` raises ValueError if it is not the object that is expected there.
    """
    try:
        if path.exists() and not path.is_file():  # to open a pipe waits for ever
            raise ValueError("not a regular file")
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        if require:
            require(found)
    except (OSError, ValueError, RecursionError) as error:
        why = one_line(error)
        raise RequestError(f"{field}: can't read {path}: {why}; {cure}") from error
    return found
