"""What a recipe wants to sweep: rows of changed fields, read and checked.

To make a recipe sweepable, define `sweep()` or `sweep(variant)` in it, next to
`get_config`. The function returns plain data:

    def sweep():
        return {
            "rows": {  # the row's name, also its folder -> the fields it changes
                "adam": {},
                "lars": {"optimizer.name": "lars", "optimizer.lr": 0.3},
            },
            # The other entries are optional.
            "baseline": "adam",  # the row to compare with; default: the first
            "score": "probe.pretrained.top1",  # an accuracy of results.json
            "published": {"lars": 69.85},  # published figures, in percent
            "source": "who published them, on what",
            "chart": {...},  # a picture of the table, see chart.py
        }
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from simclr_jax.config import recipes
from simclr_jax.config.stages import STAGES
from simclr_jax.errors import RequestError, one_line

DEFAULT_SCORE = "probe.pretrained.top1"
_FOLDER = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


class Sweep(NamedTuple):
    """What a recipe's `sweep()` returned, checked."""

    rows: dict[str, dict[str, Any]]
    baseline: str
    score: str = DEFAULT_SCORE
    published: Mapping[str, float] = {}
    source: str = ""
    chart: Mapping[str, Any] = {}


def load(recipe: str) -> Sweep:
    """Returns the sweep of a recipe, `NAME` or `PATH.py`, `[:variant]`.

    Raises:
      RequestError: the recipe has no sweep, or its sweep is not of the form above.
    """
    path, _, variant = recipes.find(recipe)
    with recipes.shipped_as_configs():
        return _load(path, variant)


def _load(path: str, variant: str) -> Sweep:
    function = getattr(recipes.load_module(path), "sweep", None)
    if function is None:
        raise RequestError(
            f"--sweep: {path} has no sweep(); see simclr_jax/sweep/recipe.py"
        )
    takes_variant = variant and inspect.signature(function).parameters
    try:
        given = function(variant) if takes_variant else function()
    except Exception as error:  # a recipe is anybody's code
        if takes_variant and isinstance(error, ValueError):  # no such variant
            raise RequestError(f"--sweep: {error}") from error
        kind = type(error).__name__
        raise RequestError(
            f"--sweep: sweep() of {path}: {kind}: {one_line(error)}"
        ) from error
    return parse(given, f"sweep() of {path}")


def parse(given: Any, where: str) -> Sweep:
    """Checks what a recipe's `sweep()` returned.

    Args:
      given: plain data, of the form above.
      where: where `given` comes from, for the errors.

    Raises:
      RequestError: `given` is not of that form.
    """
    if not isinstance(given, Mapping):
        raise RequestError(f"--sweep: {where} returned {given!r}, not a dict")
    for name, value in given.items():
        _check_entry(name, value, where)
    rows = given.get("rows")
    if not rows:
        raise RequestError(f"--sweep: {where} returned no rows")
    for row, fields in rows.items():
        _check_row(row, fields)
    sweep = Sweep(**{"baseline": next(iter(rows)), **given})
    for name in (sweep.baseline, *sweep.published):
        if name not in rows:
            raise RequestError(
                f"--sweep: {where} refers to unknown row {name!r}; rows: "
                f"{', '.join(rows)}"
            )
    for name, figure in sweep.published.items():
        if not isinstance(figure, int | float):
            raise RequestError(
                f"--sweep: the published figure of {name!r} is {figure!r}, not a number"
            )
    if sweep.score.partition(".")[0] not in STAGES:
        raise RequestError(
            f"--sweep: score {sweep.score!r} does not begin with a stage, as "
            f"{DEFAULT_SCORE!r} does"
        )
    return sweep


def _check_entry(name: Any, value: Any, where: str) -> None:
    """Raises RequestError unless `sweep()` may return this entry."""
    if name not in Sweep._fields:
        raise RequestError(
            f"--sweep: {where} returned the unknown entry {name!r}; entries: "
            f"{', '.join(Sweep._fields)}"
        )
    kind = str if name in ("baseline", "score", "source") else Mapping
    if not isinstance(value, kind):
        form = "text" if kind is str else "a dict"
        raise RequestError(f"--sweep: {where} returned {name} = {value!r}, not {form}")


def _check_row(row: Any, fields: Any) -> None:
    """Raises RequestError unless a row can name a folder and changes fields."""
    if not isinstance(fields, Mapping) or not all(isinstance(x, str) for x in fields):
        raise RequestError(
            f"--sweep: row {row!r} is {fields!r}, not a dict of changed fields"
        )
    if not isinstance(row, str) or not _FOLDER.fullmatch(row):
        raise RequestError(
            f"--sweep: row {row!r} can't name a folder; use letters, digits and "
            "any of _ . + -"
        )
