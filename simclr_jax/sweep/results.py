"""Reads the results of a sweep's points; writes them as one table and one report."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simclr_jax.config.stages import having, holds, of_own_pretraining
from simclr_jax.config.validate import same_recipe
from simclr_jax.errors import RequestError
from simclr_jax.experiment import workdir as workdir_lib
from simclr_jax.files import replace
from simclr_jax.sweep import chart as sweep_chart
from simclr_jax.sweep import table as sweep_table
from simclr_jax.sweep.plan import Point
from simclr_jax.sweep.recipe import Sweep

_MOST_NAMED = 12  # the table names at most so many unfinished points


def results(point: Point) -> dict[str, Any] | None:
    """A point's results.json if the point is finished, else None.

    No other file is read, so results.json alone has to be kept.
    """
    record = workdir_lib.results(point.path)
    if not record:
        return None
    if not isinstance(record.get("config"), dict):
        raise RequestError(
            f"--workdir: {point.path}/results.json has no config, so it does not "
            "say what was run; delete it and the sweep runs the point again"
        )
    same_recipe(record["config"], point.config, str(point.path))
    newest = record.get("pretrain", {}).get("step")
    for stage in set(point.config.stages) & having(records=True):
        own = of_own_pretraining(stage, point.config)
        origin = {"step": newest} if own and newest is not None else {}
        if not holds(record.get(stage), point.config.max_steps, origin):
            return None
    return record


def scores(
    sweep: Sweep, points: Sequence[Point]
) -> tuple[dict[str, dict[int, float]], list[dict[str, Any]]]:
    """The finished points: `({row: {seed: percent}}, [results.json])`."""
    table: dict[str, dict[int, float]] = {row: {} for row in sweep.rows}
    records = []
    for point in points:
        record = results(point)
        if record is None:
            continue
        value: Any = record
        for name in sweep.score.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, int | float):
            raise RequestError(
                f"--sweep: {point.path}/results.json has no score {sweep.score}"
            )
        table[point.row][point.seed] = 100 * value
        records.append(record)
    return table, records


def collect(sweep: Sweep, points: Sequence[Point], workdir: str | os.PathLike) -> str:
    """Writes table.md, table.csv, the pictures and report.html of the finished points.

    Returns:
      The text of table.md.
    """
    # Here, because they load matplotlib, which a rejected request need not wait for.
    from simclr_jax.report import figures
    from simclr_jax.sweep import page as sweep_page

    by_row, records = scores(sweep, points)
    table = sweep_table.make(by_row, sweep.baseline, sweep.published)
    notes = [sweep_table.note(table)]
    if sweep.published:
        notes.append(f"Published, not ours: {sweep.source or 'source not given'}.")
    missing = [str(p) for p in points if p.seed not in by_row[p.row]]
    if missing:
        which = f" ({', '.join(missing)})" if len(missing) <= _MOST_NAMED else ""
        notes.append(f"Not finished: {len(missing)} of {len(points)} runs{which}.")
    configs = {point.row: point.config for point in points}
    extra = sweep_chart.markdown(sweep.chart, table, configs)
    text = sweep_table.markdown(table, notes) + extra
    folder = Path(workdir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "table.md", text)
    replace(folder / "table.csv", sweep_table.as_csv(table))
    drawn = sweep_page.pictures(sweep, table, configs)
    for name, svg in drawn.items():
        replace(folder / f"{name}.svg", figures.standalone(svg))
    page = sweep_page.page(
        folder.resolve().name, sweep, table, configs, records, notes, drawn
    )
    replace(folder / "report.html", page)
    return text
