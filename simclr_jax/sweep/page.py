"""report.html of a sweep: its table, its pictures, and what was run on what."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from simclr_jax.config.validate import Config, flatten
from simclr_jax.report import figures
from simclr_jax.report import page as report_page
from simclr_jax.report.images import section
from simclr_jax.sweep import chart as sweep_chart
from simclr_jax.sweep import table as sweep_table
from simclr_jax.sweep.plan import Sweep
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
      configs: of each row.
      records: results.json of every finished point.
      notes: sentences under the table.
      drawn: `pictures`.
    """
    some = next(iter(configs.values()))
    runs = sum(len(line.scores) for line in table.lines)
    summary = (
        f"{len(table.lines)} rows, {runs} finished runs on {some.data.name}; score: "
        f"{sweep.score} on the test split, compared with {table.baseline}."
    )
    sections = [
        section("Results", _table(table) + _paragraphs(notes)),
        section("Differences", _figure(drawn.get("differences"))),
        section(
            "Picture", _figure(drawn.get("chart")) or _numbers(sweep, table, configs)
        ),
        section("Rows", _rows(sweep)),
        section("What was run", _provenance(records, some)),
    ]
    return report_page.page(title, summary, sections)


def pictures(
    sweep: Sweep, table: Table, configs: Mapping[str, Config]
) -> dict[str, str]:
    """The page's plots as SVG by name: those that there is something to draw of."""
    drawn = {"differences": _differences(table), "chart": _chart(sweep, table, configs)}
    return {name: svg for name, svg in drawn.items() if svg}


def _figure(svg: str | None) -> str:
    return f'<figure class="big">{svg}</figure>' if svg else ""


def _paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _table(table: Table) -> str:
    return _grid(sweep_table.cells(table))


def _grid(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head, the first cell of each line its name."""
    head, *body = lines
    text = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    text = f"<tr>{text}</tr>"
    for first, *cells in body:
        columns = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        text += f'<tr><th scope="row">{html.escape(first)}</th>{columns}</tr>'
    return f'<div class="wide"><table class="results">{text}</table></div>'


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
    """A chart of numbers in rows and columns."""
    if sweep.chart.get("kind") != "grid" or not any(x.scores for x in table.lines):
        return ""
    return _grid(sweep_chart.grid_cells(sweep.chart, table, configs))


def _rows(sweep: Sweep) -> str:
    """What each row changes."""
    terms = ""
    for row, fields in sweep.rows.items():
        text = ", ".join(f"{path} = {value!r}" for path, value in fields.items())
        text = html.escape(text or "as the recipe")
        terms += f"<dt>{html.escape(row)}</dt><dd>{text}</dd>"
    return f"<dl>{terms}</dl>"


def _provenance(records: Sequence[Mapping[str, Any]], config: Config) -> str:
    if not records:
        return "<p>No point has come to its end yet.</p>"
    facts = {
        name: ", ".join(dict.fromkeys(str(x.get(name)) for x in records))
        for name in ("commit", "device", "cpus")
    }
    facts["seeds"] = ", ".join(dict.fromkeys(str(x["seed"]) for x in records))
    seconds = [x["pretrain"]["seconds"] for x in records if "pretrain" in x]
    if seconds:
        facts["seconds of pretraining"] = f"{min(seconds):.0f} to {max(seconds):.0f}"
    versions = records[0]["versions"].items()
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions)
    terms = "".join(
        f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items()
    )
    recipe = "\n".join(
        f"{path} = {json.dumps(value)}"
        for path, value in flatten(config)
        if value is not None and path != "data.data_dir"
    )
    return (
        f"<dl>{terms}</dl><details><summary>The recipe of the first row</summary>"
        f"<pre>{html.escape(recipe)}</pre></details>"
    )
