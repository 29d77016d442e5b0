"""A sweep's chart, as the entry "chart" of the recipe's `sweep()` describes it:

{"kind": "lines", "x": "batch_size", "lines": "epochs"}
    mean accuracy over one field, with a line for each value of another
{"kind": "grid", "down": ("projector.layers",), "across": ("epochs", "batch_size")}
    the table again, with the values of these fields as its margins
{"kind": "heat", "cells": {"crop+blur": ("crop", "blur"), "crop": ("crop", "crop")}}
    a symmetric heat map; "cells" gives each row its place, by two names of margins
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from simclr_jax.config.fields import Config, flatten, similar
from simclr_jax.errors import RequestError
from simclr_jax.sweep.table import Line, Table

Chart = Mapping[str, Any]
_TAKES = {"lines": ("x", "lines"), "grid": ("down", "across"), "heat": ("cells",)}


class _Form(NamedTuple):
    """What an entry of a chart must be: in words, for the error, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(x, str) for x in value)


def _are_cells(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(_are_texts(pair) and len(pair) == 2 for pair in value.values())


_FIELD = _Form("the name of a field", lambda value: isinstance(value, str))
_FIELDS = _Form("names of fields", _are_texts)
_FORMS = {
    "x": _FIELD,
    "lines": _FIELD,
    "down": _FIELDS,
    "across": _FIELDS,
    "cells": _Form("a dict from rows to two names each", _are_cells),
}


def check(chart: Chart, rows: Iterable[str], fields: Iterable[str]) -> None:
    """Raises RequestError unless the chart can be drawn."""
    if not chart:
        return
    kind = chart.get("kind")
    takes = _TAKES.get(kind) if isinstance(kind, str) else None
    if takes is None or set(chart) != {"kind", *takes}:
        forms = "; ".join(f"{kind}: {', '.join(x)}" for kind, x in _TAKES.items())
        raise RequestError(
            f"--sweep: chart {dict(chart)} matches none of these forms: {forms}"
        )
    for name in takes:
        form = _FORMS[name]
        if not form.holds(chart[name]):
            raise RequestError(
                f"--sweep: the chart's {name} is {chart[name]!r}, not {form.words}"
            )
    for name in chart.get("cells", ()):
        if name not in rows:
            raise RequestError(
                f"--sweep: the chart refers to unknown row {name!r}; rows: "
                f"{', '.join(rows)}"
            )
    for name in _fields(chart):
        if name not in fields:
            raise RequestError(
                f"--sweep: the chart refers to unknown field config.{name}"
                f"{similar(name, fields)}"
            )


def _fields(chart: Chart) -> list[str]:
    if chart["kind"] == "lines":
        return [chart["x"], chart["lines"]]
    return [*chart.get("down", ()), *chart.get("across", ())]


def series(
    chart: Chart, table: Table, configs: Mapping[str, Config]
) -> dict[str, list[tuple[float, float, float]]]:
    """The curves of "lines": {label: [(x, mean, sd or 0)]}, in the order of x."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for line in table.lines:
        fields = dict(flatten(configs[line.row]))
        if line.mean is not None:
            label = f"{chart['lines'].rsplit('.', 1)[-1]} {fields[chart['lines']]}"
            point = (fields[chart["x"]], line.mean, line.sd or 0.0)
            points.setdefault(label, []).append(point)
    return {label: sorted(curve) for label, curve in points.items()}


def cells(
    chart: Chart, table: Table
) -> tuple[list[str], dict[tuple[str, str], float | None]]:
    """The cells of "heat": `(names of the margins, {(one, other): mean})`.

    Each pair of names is there in both orders.
    """
    names: dict[str, None] = {}
    means: dict[tuple[str, str], float | None] = {}
    by_row = {line.row: line.mean for line in table.lines}
    for row, (one, other) in chart["cells"].items():
        names |= {one: None, other: None}
        means[one, other] = means[other, one] = by_row[row]
    return list(names), means


def grid(
    chart: Chart, table: Table, configs: Mapping[str, Config]
) -> tuple[list[str], list[str], dict[tuple[str, str], Line]]:
    """The cells of "grid": `(labels down, labels across, {(down, across): line})`."""
    lines = {}
    for line in table.lines:
        fields = dict(flatten(configs[line.row]))
        place = tuple(
            ", ".join(
                f"{name.rsplit('.', 1)[-1]} {fields[name]}" for name in chart[side]
            )
            for side in ("down", "across")
        )
        lines[place] = line
    down = list(dict.fromkeys(place[0] for place in lines))
    across = list(dict.fromkeys(place[1] for place in lines))
    return down, across, lines


def grid_cells(
    chart: Chart, table: Table, configs: Mapping[str, Config]
) -> list[list[str]]:
    """A "grid" as text: our figures, and the published ones in brackets."""
    down, across, lines = grid(chart, table, configs)
    text = [["top-1, %", *across]]
    for name in down:
        text.append([name, *(_figures(lines.get((name, x))) for x in across)])
    return text


def markdown(chart: Chart, table: Table, configs: Mapping[str, Config]) -> str:
    """A "grid" in Markdown; "" for the kinds that are drawn as pictures."""
    if not chart or chart["kind"] != "grid":
        return ""
    head, *body = [
        f"| {' | '.join(line)} |" for line in grid_cells(chart, table, configs)
    ]
    rule = "|" + " --- |" * (head.count("|") - 1)
    return "\n" + "\n".join([head, rule, *body]) + "\n"


def _figures(line: Line | None) -> str:
    if line is None:
        return ""
    ours = "no run" if line.mean is None else f"{line.mean:.1f}"
    published = "" if line.published is None else f" (published {line.published:.1f})"
    return ours + published
