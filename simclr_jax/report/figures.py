"""The report's plots, by matplotlib: plain numbers in, inline SVG out.

Text and axes take the colour of the page's text, and the background is transparent, so
a figure suits a light and a dark page alike.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]

_TEXT = "#010203"  # stands for the page's text colour
# Legible on white and on black, and told apart by the colour-blind (Okabe and Ito,
# 2008, without the black and the yellow).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "simclr_jax",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "grid.alpha": 0.15,
    "grid.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": _TEXT,
}


def curve(name: str, title: str, points: Points) -> str:
    """A quantity over the epochs, its last value in the title.

    Args:
      name: makes the ids of this SVG unique on the page.
      title: the quantity.
      points: (epoch, value), at least one.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 2.5), layout="constrained")
        axis = figure.subplots()
        _line(axis, points, COLOURS[0])
        axis.set_title(f"{title}: {points[-1][1]:.4g}")
        axis.set_xlabel("epoch")
        if min(y for _, y in points) == max(y for _, y in points):
            # A constant: do not zoom in on it.
            axis.set_ylim(*sorted((0, 2 * points[0][1] or 1)))
        return _svg(figure, name)


def accuracies(
    name: str, series: Mapping[str, Points], levels: Mapping[str, float]
) -> str:
    """Accuracies over the epochs, with horizontal lines to compare them with.

    Args:
      name: as for `curve`.
      series: label -> (epoch, fraction), drawn as curves.
      levels: label -> fraction, drawn as horizontal lines.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axis = figure.subplots()
        colours = iter(COLOURS)
        for label, points in series.items():
            percent = [(epoch, 100 * value) for epoch, value in points]
            label = f"{label}: {percent[-1][1]:.1f}"
            _line(axis, percent, next(colours), label=label, marker="o")
        for label, value in levels.items():
            text = f"{label}: {100 * value:.1f}"
            axis.axhline(
                100 * value, color=next(colours), linestyle="--", lw=1.4, label=text
            )
        axis.set_title("top-1 on the test split, %")
        axis.set_xlabel("epoch of pretraining")
        figure.legend(loc="outside lower left", ncols=2)
        return _svg(figure, name)


def _line(axis: Axes, points: Points, colour: str, **options: Any) -> None:
    options = {"marker": "o" if len(points) == 1 else "", **options}
    x, y = zip(*points, strict=True)
    axis.plot(x, y, color=colour, linewidth=1.6, markersize=4, **options)


def scatter(name: str, points: np.ndarray, colours: Iterable[str]) -> str:
    """Points [M, 2] in the plane; the group "NAME-points" has one <use> for each.

    Args:
      name: as for `curve`.
      points: [M, 2].
      colours: one for each point.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.0), layout="constrained")
        axis = figure.subplots()
        drawn = axis.scatter(*points.T, s=11, c=list(colours), linewidths=0)
        drawn.set_gid("points")
        axis.set(xticks=[], yticks=[])
        axis.set_aspect("equal", adjustable="datalim")
        axis.spines[:].set_visible(False)
        return _svg(figure, name)


def intervals(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[float], float | None, float]],
) -> str:
    """A point with its interval for every row, from top to bottom, and a line at 0.

    Args:
      name: as for `curve`.
      title: what is shown.
      rows: (label, single values, centre, half width of its interval); a row without
        a centre has no mark.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 0.9 + 0.32 * len(rows)), layout="constrained")
        axis = figure.subplots()
        axis.axvline(0, color=_TEXT, linewidth=1, alpha=0.5)
        for y, (_, values, centre, half) in enumerate(rows):
            axis.plot(values, [y] * len(values), "o", color=COLOURS[4], markersize=4)
            if centre is not None:
                axis.errorbar(
                    centre, y, xerr=half, fmt="D", color=COLOURS[0], ms=5, capsize=4
                )
        axis.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axis.invert_yaxis()
        axis.set_title(title)
        return _svg(figure, name)


def bands(
    name: str, x_label: str, series: Mapping[str, Sequence[tuple[float, float, float]]]
) -> str:
    """Accuracy over a quantity on a log axis: a line with error bars per series.

    Args:
      name: as for `curve`.
      x_label: the quantity.
      series: label -> (x, mean, sd), in percent.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axis = figure.subplots()
        for i, (label, points) in enumerate(series.items()):
            x, mean, sd = zip(*points, strict=True)
            colour = COLOURS[i % len(COLOURS)]
            axis.errorbar(x, mean, sd, label=label, color=colour, marker="o", capsize=3)
        ticks = sorted({x for points in series.values() for x, *_ in points})
        if ticks and ticks[0] > 0:
            axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks], minor=False)
        axis.set_title("top-1 on the test split, %, mean +- sd")
        axis.set_xlabel(x_label)
        axis.legend()
        return _svg(figure, name)


def heat_map(
    name: str, names: Sequence[str], values: Mapping[tuple[str, str], float | None]
) -> str:
    """A square of numbers, brighter where they are higher.

    Args:
      name: as for `curve`.
      names: the labels of the rows, and of the columns as well.
      values: (row, column) -> number in percent, None where there is none yet.
    """
    grid = np.array([[values.get((a, b)) for b in names] for a in names], float)
    with rc_context(_STYLE):
        size = 1.2 + 0.75 * len(names)
        figure = Figure(figsize=(size + 0.6, size), layout="constrained")
        axis = figure.subplots()
        axis.grid(visible=False)
        drawn = axis.imshow(grid, cmap="cividis")
        low, high = drawn.get_clim() if np.isfinite(grid).any() else (0.0, 1.0)
        for y, row in enumerate(grid):
            for x, value in enumerate(row):
                if np.isfinite(value):
                    pale = value - low > 0.6 * (high - low)
                    colour = "black" if pale else "white"
                    axis.text(x, y, f"{value:.1f}", ha="center", va="center", c=colour)
        axis.set_xticks(range(len(names)), names, rotation=30)
        axis.set_yticks(range(len(names)), names)
        axis.spines[:].set_visible(False)
        axis.set_title("top-1 on the test split, %")
        return _svg(figure, name)


def class_colours(count: int) -> list[str]:
    """A colour for each class, as "#rrggbb"; from the 21st class on they repeat."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    palette = colormaps["tab10" if count <= 10 else "tab20"]
    return [to_hex(palette(i % palette.N)) for i in range(count)]


def _svg(figure: Figure, name: str) -> str:
    picture = io.StringIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    svg = picture.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    # A page has several figures: the name keeps their ids apart.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    # Without a size of its own, so that it fits a phone's page too.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    return re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)


def standalone(svg: str) -> str:
    """A page's plot as a file of its own: black on white, in its natural size."""
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert box is not None
    root = (
        f'<svg width="{box[1]}" height="{box[2]}" '
        'style="background: white; color: black"'
    )
    return svg.replace("<svg", root, 1)
