"""The points of a sweep: each row of the recipe's `sweep()`, times the seeds.

A point is one row with one seed: a run like any other, in WORKDIR/ROW/seed_N. Its
process writes what it prints to log.txt there. In `config.pretrained`, `{row}` and any
`{FIELD}` stand for the point's own: OLD/{row}/seed_{seed} is the same point of another
sweep, whose encoder it uses.
"""

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simclr_jax.config.fields import Config, every_field, flatten, similar
from simclr_jax.config.rules import RULES
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.experiment import workdir as workdir_lib
from simclr_jax.sweep import chart as sweep_chart
from simclr_jax.sweep.recipe import Sweep


class Point(NamedTuple):
    """One run of a sweep."""

    row: str
    seed: int
    config: Config
    path: Path

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


def seeds_of(text: str) -> list[int]:
    """Parses `--seeds`: "0,1,2" -> [0, 1, 2]."""
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

    So another seed adds its points at the end, and a sweep that is stopped early has
    compared all rows on the earlier seeds.
    """
    folder = Path(workdir).expanduser()
    changed = {row: _with(config, fields, row) for row, fields in sweep.rows.items()}
    all_points = []
    for seed in seeds:
        for row, row_config in changed.items():
            config = copy.deepcopy(row_config)
            config.seed = seed
            path = folder / row / f"seed_{seed}"
            workdir_lib.settle(path, config)
            config.pretrained = _of_point(config.pretrained, row, config)
            all_points.append(Point(row, seed, config, path))
    return all_points


def _of_point(text: str, row: str, config: Config) -> str:
    """`text` with the point's row and fields in the place of their names in braces."""
    for name, value in [("row", row), *flatten(config)]:
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _with(config: Config, fields: dict[str, Any], row: str) -> Config:
    """A copy of `config` with a row's changes."""
    changed = copy.deepcopy(config)
    paths = [path for path, _ in flatten(config)]
    for path, value in fields.items():
        if path == "seed":
            raise RequestError(
                f"--sweep: row {row!r}: config.seed: --seeds sets it; leave it out"
            )
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
      flags: the command line; it must not set a field that a row sets.
      to_run: whether the points will run, which takes their data; otherwise their
        results are only collected.
    """
    for flag in flags:
        named = re.match(r"--?config\.([\w.]+)", flag)
        path = named.group(1) if named else ""
        rows = [row for row, fields in sweep.rows.items() if path in fields]
        if rows or path == "seed":
            by = f"row {rows[0]!r}" if rows else "--seeds"
            raise RequestError(f"config.{path}: {by} sets it; leave it out")
    seen: set[tuple[str, str]] = set()
    sweep_chart.check(sweep.chart, sweep.rows, every_field())
    for point in found:
        if (point.path.parents[1] / "config.json").exists():
            raise RequestError(
                f"--workdir: {point.path.parents[1]} holds a single run; choose "
                "another folder for the sweep"
            )
        try:
            workdir_lib.check(point.path, point.config)
            # The checks below depend on the seed only if it names the encoder.
            if (point.row, point.config.pretrained) in seen:
                continue
            seen.add((point.row, point.config.pretrained))
            validate(point.config)
            if to_run:
                _check_run(sweep, point)
        except RequestError as error:
            raise RequestError(f"--sweep: row {point.row!r}: {error}") from error


def _check_run(sweep: Sweep, point: Point) -> None:
    """Raises RequestError unless the point can run and its stages give the score."""
    # Here, because it loads Orbax, which collecting does without.
    from simclr_jax.experiment import preflight

    stage = sweep.score.partition(".")[0]
    if stage not in point.config.stages:
        raise RequestError(
            f"config.stages: {stage!r} is missing; the sweep's score "
            f"{sweep.score} comes from it"
        )
    preflight.check(point.config, point.path)
