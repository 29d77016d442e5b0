"""Scores of many runs -> mean, spread and seed-paired differences; Markdown and CSV.

Everything here is in percent; nothing here reads a file.
"""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Scores = Mapping[str, Mapping[int, float]]  # row -> seed -> score

CONFIDENCE = 0.95


class Line(NamedTuple):
    """A row of the table; None where there are too few runs to say."""

    row: str
    scores: Mapping[int, float]  # by seed
    mean: float | None
    sd: float | None  # of this row's runs alone, divisor n - 1
    difference: float | None  # to the baseline, mean over the seeds both have
    half_width: float | None  # of the confidence interval of `difference`
    published: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the confidence interval of `difference`."""
        if self.difference is None or self.half_width is None:
            return None
        return self.difference - self.half_width, self.difference + self.half_width


class Table(NamedTuple):
    """All rows with their statistics."""

    lines: list[Line]
    baseline: str
    sd: float | None  # of a run's noise, pooled over rows
    freedom: int  # degrees of freedom of `sd`


def make(scores: Scores, baseline: str, published: Mapping[str, float]) -> Table:
    """The statistics of a sweep.

    A seed is a block: the same data order, labels and first weights (where the shapes
    agree) in every row. So score = row + seed + noise, fitted by least squares. The
    noise's sd is pooled over all rows: the root of the residuals' sum of squares over
    the degrees of freedom, which are the runs less the fitted numbers. A difference of
    two rows over n common seeds has the standard error sd x sqrt(2 / n), and its
    interval takes Student's t with those degrees of freedom. For two rows this is the
    paired t-test. Each interval holds by itself; more rows do not widen it.

    Args:
      scores: those of the finished runs, in the order of the table.
      baseline: the row that the others are compared with.
      published: published figures, by row.
    """
    sd, freedom = pooled_sd(scores)
    lines = []
    for row, by_seed in scores.items():
        values = list(by_seed.values())
        common = [seed for seed in by_seed if seed in scores[baseline]]
        gaps = [by_seed[seed] - scores[baseline][seed] for seed in common]
        compared = bool(gaps) and row != baseline
        half = None
        if compared and sd is not None:
            half = quantile(freedom) * sd * math.sqrt(2 / len(gaps))
        lines.append(
            Line(
                row,
                by_seed,
                statistics.mean(values) if values else None,
                statistics.stdev(values) if len(values) > 1 else None,
                statistics.mean(gaps) if compared else None,
                half,
                published.get(row),
            )
        )
    return Table(lines, baseline, sd, freedom)


def pooled_sd(scores: Scores) -> tuple[float | None, int]:
    """`(sd, degrees of freedom)` of the noise in score = row + seed + noise.

    None if no degree of freedom is left: one row, or one seed.
    """
    cells = [
        (row, seed, x) for row, by_seed in scores.items() for seed, x in by_seed.items()
    ]
    if not cells:
        return None, 0
    rows, seeds, values = zip(*cells, strict=True)
    design = np.concatenate([_one_hot(rows), _one_hot(seeds)], axis=1)
    y = np.asarray(values, float)
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(y) - int(rank)
    if freedom < 1:
        return None, 0
    residual = y - design @ solution
    return math.sqrt(float(residual @ residual) / freedom), freedom


def _one_hot(names: Sequence) -> np.ndarray:
    distinct = list(dict.fromkeys(names))
    return np.equal.outer(
        [distinct.index(name) for name in names], range(len(distinct))
    ).astype(float)


def quantile(freedom: int) -> float:
    """The t such that `CONFIDENCE` of Student's distribution lies between -t and t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


# As text --------------------------------------------------------------------


def cells(table: Table) -> list[list[str]]:
    """The table as text, its head first, without the columns that would be empty."""
    base = next((x.published for x in table.lines if x.row == table.baseline), None)
    head = ["row", "top-1, %", "n", f"minus {table.baseline}", "95 % interval"]
    lines = [[*head, "published, %", "published difference"]]
    for line in table.lines:
        published, difference = "", ""
        if line.published is not None:
            published = f"{line.published:.2f}"
            if base is not None and line.row != table.baseline:
                difference = signed(line.published - base)
        lines.append(
            [
                line.row,
                mean_and_sd(line),
                str(len(line.scores)),
                signed(line.difference),
                between(line.interval),
                published,
                difference,
            ]
        )
    filled = [i for i, _ in enumerate(lines[0]) if any(x[i] for x in lines[1:])]
    return [[line[i] for i in filled] for line in lines]


def mean_and_sd(line: Line) -> str:
    """Mean and sd over seeds, as "56.72 +- 0.31"."""
    if line.mean is None:
        return "no run"
    return f"{line.mean:.2f}" + ("" if line.sd is None else f" +- {line.sd:.2f}")


def signed(value: float | None) -> str:
    """A difference with its sign, as "+1.25"; "" for None."""
    return "" if value is None else f"{value:+.2f}"


def between(interval: tuple[float, float] | None) -> str:
    """The ends of an interval, as "-0.25 to +1.50"; "" for None."""
    return "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def note(table: Table) -> str:
    """What the spread and the intervals mean."""
    text = "Mean +- sd over n seeds; differences are taken seed by seed."
    if table.sd is None:
        return text + " No intervals: they take at least two rows and two seeds."
    return (
        f"{text} Their {CONFIDENCE:.0%} intervals take one sd for all rows: "
        f"{table.sd:.2f} points for a run beside the same seed's others "
        f"({table.freedom} degrees of freedom, Student's t); they hold one at a time, "
        "not for all rows together."
    )


def markdown(table: Table, notes: Sequence[str]) -> str:
    """A table that reads well as plain text too, and the notes under it."""
    lines = cells(table)
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for first, *others in lines:
        padded = [x.rjust(w) for x, w in zip(others, widths[1:], strict=True)]
        text.append(f"| {' | '.join([first.ljust(widths[0]), *padded])} |")
    rules = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    text.insert(1, f"| {' | '.join(rules)} |")
    return "\n".join([*text, "", *notes]) + "\n"


def as_csv(table: Table) -> str:
    """All figures at full precision, each seed's score in a column of its own."""
    seeds = list(dict.fromkeys(s for line in table.lines for s in line.scores))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["row", "n", "mean", "sd", "difference", "low", "high", "published"]
        + [f"seed_{seed}" for seed in seeds]
    )
    for line in table.lines:
        writer.writerow(
            [line.row, len(line.scores), line.mean, line.sd, line.difference]
            + [*(line.interval or (None, None)), line.published]
            + [line.scores.get(seed) for seed in seeds]
        )
    return file.getvalue()
