"""What a sweep is asked to run: a recipe's rows, times the seeds.

A recipe that can be swept defines a function `sweep()` (or `sweep(variant)`) next to
`get_config`. It returns plain data:

    def sweep():
        return {
            "rows": {  # name of the row, its folder too -> the fields it changes
                "adam": {},
                "lars": {"optimizer.name": "lars", "optimizer.lr": 0.3},
            },
            # All that follows may be left out.
            "baseline": "adam",  # the row to compare with; by default the first
            "score": "probe.pretrained.top1",  # an accuracy, its place in results.json
            "published": {"lars": 69.85},  # other people's figures, in percent
            "source": "who published them, on what",
            "chart": {...},  # a picture of the table, see chart.py
        }

A point is one row with one seed: a run like any other, in WORKDIR/ROW/seed_N. What its
process prints is in log.txt there.
"""

import copy
import importlib.util
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simclr_jax.config.fields import Config, every_field, flatten, similar
from simclr_jax.config.rules import RULES
from simclr_jax.config.stages import STAGES
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError, one_line
from simclr_jax.experiment import workdir as workdir_lib
from simclr_jax.sweep import chart as sweep_chart

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


class Point(NamedTuple):
    """One run of a sweep."""

    row: str
    seed: int
    config: Config
    path: Path

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


def load(recipe: str) -> Sweep:
    """The sweep of `configs/NAME.py[:variant]`.

    Raises:
      RequestError: the recipe has no sweep, or one that is not of the form above.
    """
    path, _, variant = recipe.partition(":")
    spec = importlib.util.spec_from_file_location("recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, "sweep", None)
    if function is None:
        raise RequestError(
            f"--sweep: {path} has no sweep(); see simclr_jax/sweep/plan.py"
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
      where: what an error names as its source.

    Raises:
      RequestError: it is not of that form.
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
            f"--sweep: score {sweep.score!r} is not a place in results.json"
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
    """Raises RequestError unless a row names a folder and changes fields."""
    if not isinstance(fields, Mapping) or not all(isinstance(x, str) for x in fields):
        raise RequestError(
            f"--sweep: row {row!r} is {fields!r}, not a dict of changed fields"
        )
    if not isinstance(row, str) or not _FOLDER.fullmatch(row):
        raise RequestError(
            f"--sweep: row {row!r} can't name a folder; use letters, digits and "
            "any of _ . + -"
        )


def seeds_of(text: str) -> list[int]:
    """`0,1,2` -> [0, 1, 2]."""
    words = text.split(",")
    if not all(re.fullmatch(r"\d{1,10}", word.strip()) for word in words):
        raise RequestError(f"--seeds: {text!r} is not of the form 0,1,2")
    seeds = [int(word) for word in words]
    for seed in seeds:
        accepted = RULES["seed"](seed)
        if accepted:
            raise RequestError(f"--seeds: {seed} is not {accepted}")
    if len(set(seeds)) < len(seeds):
        raise RequestError(f"--seeds: {text!r} has a seed twice")
    return seeds


def points(
    sweep: Sweep, config: Config, seeds: Sequence[int], workdir: str | os.PathLike
) -> list[Point]:
    """Every row with the first seed, then every row with the next, and so on.

    So more seeds add points at the end, and a sweep stopped early has compared all
    rows on the seeds it had.
    """
    folder = Path(workdir).expanduser()
    changed = {row: _with(config, fields, row) for row, fields in sweep.rows.items()}
    all_points = []
    for seed in seeds:
        for row, row_config in changed.items():
            config = copy.deepcopy(row_config)
            config.seed = seed
            path = folder / row / f"seed_{seed}"
            all_points.append(Point(row, seed, config, path))
    return all_points


def _with(config: Config, fields: dict[str, Any], row: str) -> Config:
    """A copy of `config` with a row's changes."""
    changed = copy.deepcopy(config)
    paths = [path for path, _ in flatten(config)]
    for path, value in fields.items():
        if path == "seed":
            raise RequestError(f"--sweep: row {row!r}: config.seed: set by --seeds")
        if path not in paths:
            hint = similar(path, paths)
            raise RequestError(
                f"--sweep: row {row!r}: config.{path}: no such field{hint}"
            )
        *sections, leaf = path.split(".")
        section = changed
        for name in sections:
            section = section[name]
        try:
            section[leaf] = value
        except (TypeError, ValueError) as error:
            raise RequestError(
                f"--sweep: row {row!r}: config.{path}: {value!r} does not fit; {error}"
            ) from error
    return changed


def check(
    sweep: Sweep,
    found: Sequence[Point],
    flags: Sequence[str],
    *,
    to_run: bool,
) -> None:
    """Raises RequestError unless every point can be run. Writes nothing.

    Args:
      flags: the command line; a field that a row sets can't be set there as well.
      to_run: else the points are only to be collected, which takes no data.
    """
    for flag in flags:
        named = re.match(r"--?config\.([\w.]+)", flag)
        path = named.group(1) if named else ""
        rows = [row for row, fields in sweep.rows.items() if path in fields]
        if rows or path == "seed":
            by = f"row {rows[0]!r}" if rows else "--seeds"
            raise RequestError(f"config.{path}: {by} sets it; leave it out")
    seen: set[str] = set()
    sweep_chart.check(sweep.chart, sweep.rows, every_field())
    for point in found:
        if (point.path.parents[1] / "config.json").exists():
            raise RequestError(
                f"--workdir: {point.path.parents[1]} holds a run of its own; a sweep "
                "needs another folder"
            )
        try:
            workdir_lib.check(point.path, point.config)
            if point.row in seen:  # its seeds differ in nothing that is checked
                continue
            seen.add(point.row)
            validate(point.config)
            if to_run:
                _check_run(sweep, point)
        except RequestError as error:
            raise RequestError(f"--sweep: row {point.row!r}: {error}") from error


def _check_run(sweep: Sweep, point: Point) -> None:
    """Raises RequestError unless the point's data fit and it gives the score."""
    from simclr_jax.experiment import preflight  # loads Orbax: not to read results

    stage = sweep.score.partition(".")[0]
    if stage not in point.config.stages:
        raise RequestError(
            f"config.stages: {stage!r} is missing; the sweep's score "
            f"{sweep.score} comes from it"
        )
    preflight.check(point.config, point.path)
