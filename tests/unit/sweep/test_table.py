"""A sweep's statistics against SciPy, and the table as text."""

import csv
import io
import math
import re

import numpy as np
import pytest
from scipy import stats
from sweeps import by_row

from simclr_jax.sweep import table as sweep_table


def test_two_rows_are_the_paired_t_test():
    a, b = [50.0, 53.0, 47.0, 51.0], [51.5, 55.0, 47.5, 53.5]
    table = sweep_table.make(by_row([a, b]), "row0", {})
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert table.lines[1].interval == pytest.approx(tuple(expected), rel=1e-9)
    assert table.lines[1].difference == pytest.approx(1.625)
    assert table.lines[0].difference is table.lines[0].interval is None


def test_the_sd_is_pooled_over_rows():
    """Three rows, three seeds, by hand: the residuals of row and seed means."""
    table = sweep_table.make(
        by_row([[10, 12, 14], [11, 14, 14], [9, 9, 12]]), "row0", {}
    )
    # Row means 12, 13, 10; seed means 10, 35/3, 40/3; mean of all 35/3. Residuals
    # x - row - seed + all: (-1/3, 0, 1/3), (-1/3, 1, -2/3), (2/3, -1, 1/3); their
    # squares sum to 30/9, over (3 - 1) x (3 - 1) degrees of freedom.
    assert table.freedom == 4
    assert table.sd == pytest.approx(math.sqrt(30 / 9 / 4))
    for line, gap in zip(table.lines[1:], (1.0, -2.0), strict=True):
        half = stats.t.ppf(0.975, 4) * math.sqrt(30 / 36) * math.sqrt(2 / 3)
        assert line.difference == pytest.approx(gap)
        assert line.interval == pytest.approx((gap - half, gap + half))
    assert [line.mean for line in table.lines] == pytest.approx([12, 13, 10])
    assert table.lines[0].sd == pytest.approx(2.0)  # not the pooled one


def test_missing_runs_cost_their_degrees_of_freedom_only():
    matrix = np.array([[10, 12, 14], [11, 14, np.nan], [9, 9, 12], [np.nan] * 3])
    table = sweep_table.make(by_row(matrix), "row0", {})
    # Least squares again, the other way round: minimise over rows and seeds in turn.
    known, fit = ~np.isnan(matrix[:3]), np.zeros([3, 3])
    for _ in range(2000):
        for axis in (0, 1):
            rest = np.where(known, matrix[:3] - fit, 0)
            fit = fit + rest.sum(axis, keepdims=True) / known.sum(axis, keepdims=True)
    residual = (matrix[:3] - fit)[known]
    assert table.freedom == 8 - 3 - 2
    assert table.sd == pytest.approx(math.sqrt((residual**2).sum() / 3), rel=1e-9)
    assert table.lines[1].difference == pytest.approx(1.5)  # of seeds 0 and 1
    half = stats.t.ppf(0.975, 3) * table.sd  # sqrt(2 / 2)
    assert table.lines[1].half_width == pytest.approx(half)
    assert table.lines[3][2:6] == (None, None, None, None)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.array([[0.0], [1.0], [-2.0], [0.5]])
    hits = 0
    for _ in range(1000):
        seeds = rng.normal(0, 5, (1, 3))
        table = sweep_table.make(
            by_row(truth + seeds + rng.normal(0, 0.7, (4, 3))), "row0", {}
        )
        low, high = table.lines[1].interval
        hits += low < 1.0 < high
    assert 0.93 < hits / 1000 < 0.97


@pytest.mark.parametrize("matrix", [[[1.0, 2.0]], [[1.0], [2.0]], [[np.nan], [np.nan]]])
def test_too_few_runs_give_no_interval(matrix):
    table = sweep_table.make(by_row(matrix), "row0", {})
    assert table.sd is None
    assert all(line.interval is None for line in table.lines)
    assert "No interval" in sweep_table.note(table)
    sweep_table.markdown(table, [])


def test_the_table_as_text():
    published = {"row0": 68.59, "row1": 71.59}
    table = sweep_table.make(by_row([[10, 12, 14], [11, 14, 14]]), "row0", published)
    head, rule, first, second = sweep_table.markdown(table, ["note"]).splitlines()[:4]
    cells = [[x.strip() for x in line.strip("|").split("|")] for line in (head, second)]
    shown = dict(zip(*cells, strict=True))
    assert shown["top-1, %"] == "13.00 +- 1.73"
    assert shown["n"] == "3"
    assert shown["minus row0"] == "+1.00"
    assert shown["published, %"] == "71.59"
    assert shown["published difference"] == "+3.00"
    assert all(re.fullmatch(r" -+:? ", x) for x in rule.strip("|").split("|"))
    assert "68.59" in first
    rows = list(csv.DictReader(io.StringIO(sweep_table.as_csv(table))))
    assert [float(rows[1][f"seed_{s}"]) for s in range(3)] == [11, 14, 14]
    low, high = float(rows[1]["low"]), float(rows[1]["high"])
    assert (low, high) == pytest.approx(table.lines[1].interval)
    assert rows[0]["difference"] == ""
