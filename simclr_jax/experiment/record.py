"""The lines of metrics.jsonl, and how many trainings a workdir has had of a name."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from simclr_jax.files import naming, replace


def add(path: Path, line: dict[str, Any]) -> None:
    """Appends a line; NaN and infinity, which JSON does not have, become null."""
    line = {name: _finite_or_null(value) for name, value in line.items()}
    with naming(path), path.open("a") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines that `add` wrote in full."""
    if not path.exists():
        return []
    return list(_whole(path.read_text(errors="replace").split("\n")))


def keep(path: Path, kept: Iterable[dict[str, Any]]) -> None:
    """Writes the file anew."""
    replace(path, "".join(json.dumps(line) + "\n" for line in kept))


def trainings(folder: Path) -> dict[str, int]:
    """`{name: count}` of what a workdir has trained anew, with logger or without.

    It lies with what the services have got: who deletes that begins anew there, too.
    """
    try:
        found = json.loads(_counts(folder).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def count(folder: Path, name: str) -> int:
    """Counts one more training; returns which one it is."""
    counts = trainings(folder)
    counts[name] = counts.get(name, 1) + 1
    _counts(folder).parent.mkdir(exist_ok=True)
    replace(_counts(folder), json.dumps(counts, indent=1) + "\n")
    return counts[name]


def forget(folder: Path) -> None:
    """Forgets what the loggers have got.

    Their locks stay: the process of a killed run may still have one.
    """
    for file in (folder / "loggers").glob("*.json"):
        file.unlink(missing_ok=True)


def _counts(folder: Path) -> Path:
    return folder / "loggers" / "trainings.json"


def _finite_or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole(written: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in written:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        names = ("stage", "variant", "step")
        kinds = (
            [type(found.get(name)) for name in names] if isinstance(found, dict) else []
        )
        if kinds == [str, str, int]:
            yield found
