"""Each row's place in a sweep's chart."""

import itertools
import re

from configs import common
from simclr_jax.report import figures
from simclr_jax.sweep import chart as sweep_chart
from simclr_jax.sweep import table as sweep_table


def configs_of(rows):
    made = {}
    for row, fields in rows.items():
        made[row] = common.get_config()
        made[row].update_from_flattened_dict(fields)
    return made


def test_charts_put_each_row_in_its_place():
    rows = {
        f"{batch}-{epochs}": {"batch_size": batch, "epochs": epochs}
        for epochs, batch in itertools.product((5, 10), (128, 64))
    }
    scores = {
        row: {0: float(i)} for i, row in enumerate(("128-5", "64-5", "128-10", "64-10"))
    }
    table = sweep_table.make(scores, "128-5", {"64-10": 70.25})
    lines = {"kind": "lines", "x": "batch_size", "lines": "epochs"}
    assert sweep_chart.series(lines, table, configs_of(rows)) == {
        "epochs 5": [(64, 1.0, 0.0), (128, 0.0, 0.0)],
        "epochs 10": [(64, 3.0, 0.0), (128, 2.0, 0.0)],
    }
    grid = {"kind": "grid", "down": ("epochs",), "across": ("batch_size",)}
    assert sweep_chart.markdown(grid, table, configs_of(rows)).split("\n")[1:-1] == [
        "| top-1, % | batch_size 128 | batch_size 64 |",
        "| --- | --- | --- |",
        "| epochs 5 | 0.0 | 1.0 |",
        "| epochs 10 | 2.0 | 3.0 (published 70.2) |",
    ]


def test_the_heat_map_is_symmetric_and_shows_its_numbers():
    table = sweep_table.make({"a": {0: 11.1}, "a+b": {0: 22.2}, "b": {}}, "a", {})
    cells = {"a": ("a", "a"), "a+b": ("a", "b"), "b": ("b", "b")}
    names, means = sweep_chart.cells({"kind": "heat", "cells": cells}, table)
    assert names == ["a", "b"]
    assert means["a", "b"] == means["b", "a"] == 22.2
    picture = figures.heat_map("map", names, means)
    shown = re.findall(r">\s*(\d\d\.\d)\s*<", picture)
    assert sorted(shown) == ["11.1", "22.2", "22.2"]
