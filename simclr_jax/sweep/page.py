"""A sweep's report.html: its table, its pictures, and what was run on which device."""

from collections.abc import Mapping, Sequence
from typing import Any

from simclr_jax.config.fields import Config, flatten
from simclr_jax.report import figures, html
from simclr_jax.report.html import section
from simclr_jax.sweep import chart as sweep_chart
from simclr_jax.sweep import table as sweep_table
from simclr_jax.sweep.recipe import Sweep
from simclr_jax.sweep.table import Table


def page(
    title: str,
    sweep: Sweep,
    table: Table,
    configs: Mapping[str, Config],
    records: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    drawn: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
      configs: each row's config.
      records: results.json of every finished point.
      notes: sentences under the table.
      drawn: what `pictures` returned.
    """
    first = next(iter(configs.values()))
    runs = sum(len(line.scores) for line in table.lines)
    summary = (
        f"{len(table.lines)} rows, {runs} finished runs on {first.data.name}; score: "
        f"{sweep.score} on the test split, compared with {table.baseline}."
    )
    picture = html.large_figure(drawn.get("chart", ""))
    sections = [
        section("Results", _grid(sweep_table.cells(table)) + html.paragraphs(notes)),
        section("Differences", html.large_figure(drawn.get("differences", ""))),
        section("Picture", picture or _numbers(sweep, table, configs)),
        section("Rows", _rows(sweep)),
        section("What was run", _provenance(records, first)),
    ]
    return html.page(title, summary, sections)


def pictures(
    sweep: Sweep, table: Table, configs: Mapping[str, Config]
) -> dict[str, str]:
    """The page's plots, as SVG by name; a plot without data is left out."""
    drawn = {"differences": _differences(table), "chart": _chart(sweep, table, configs)}
    return {name: svg for name, svg in drawn.items() if svg}


def _grid(lines: Sequence[Sequence[str]]) -> str:
    """A table: its head, then lines that begin with their names."""
    head, *body = lines
    rows = [html.row(name, map(html.cell, cells)) for name, *cells in body]
    return f'<div class="wide">{html.results_table(head, rows)}</div>'


def _differences(table: Table) -> str:
    """Each row against the baseline: seed by seed, and the mean with its interval."""
    (base,) = [line for line in table.lines if line.row == table.baseline]
    rows = [
        (
            line.row,
            [x - base.scores[s] for s, x in line.scores.items() if s in base.scores],
            line.difference,
            line.half_width or 0.0,
        )
        for line in table.lines
        if line.difference is not None
    ]
    if not rows:
        return ""
    title = f"top-1 minus {table.baseline} in points; small: single seeds"
    return figures.intervals("gaps", title, rows)


def _chart(sweep: Sweep, table: Table, configs: Mapping[str, Config]) -> str:
    chart = sweep.chart
    if not any(line.scores for line in table.lines):
        return ""
    if chart.get("kind") == "lines":
        label = chart["x"].replace("_", " ")
        return figures.bands("chart", label, sweep_chart.series(chart, table, configs))
    if chart.get("kind") == "heat":
        return figures.heat_map("chart", *sweep_chart.cells(chart, table))
    return ""


def _numbers(sweep: Sweep, table: Table, configs: Mapping[str, Config]) -> str:
    """A "grid" chart, which is a table of its own."""
    if sweep.chart.get("kind") != "grid" or not any(x.scores for x in table.lines):
        return ""
    return _grid(sweep_chart.grid_cells(sweep.chart, table, configs))


def _rows(sweep: Sweep) -> str:
    """The fields that each row changes."""
    changes = {
        row: ", ".join(f"{path} = {value!r}" for path, value in fields.items())
        for row, fields in sweep.rows.items()
    }
    return html.definitions(
        {row: text or "as the recipe" for row, text in changes.items()}
    )


def _provenance(records: Sequence[Mapping[str, Any]], config: Config) -> str:
    if not records:
        return html.paragraphs(["No run has finished yet."])
    facts = {
        name: ", ".join(dict.fromkeys(str(x.get(name)) for x in records))
        for name in ("commit", "device", "cpus")
    }
    facts["seeds"] = ", ".join(dict.fromkeys(str(x["seed"]) for x in records))
    seconds = [x["pretrain"]["seconds"] for x in records if "pretrain" in x]
    if seconds:
        facts["seconds of pretraining"] = f"{min(seconds):.0f} to {max(seconds):.0f}"
    recipe = dict(flatten(config))
    del recipe["data.data_dir"]  # a path on one machine
    return html.provenance(
        facts, records[0]["versions"], "The recipe of the first row", recipe
    )
