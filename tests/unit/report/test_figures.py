"""The report's plots: what is drawn, in which colours, with which ids."""

import re

import numpy as np
import pytest

from simclr_jax.report import figures


def test_a_single_record_shows_as_a_point():
    one = figures.curve("a", "loss", [(1.0, 2.0)])
    two = figures.curve("a", "loss", [(1.0, 2.0), (2.0, 2.0)])
    colour = figures.COLOURS[0]
    assert re.search(f"<use[^>]*{colour}", one)
    assert not re.search(f"<use[^>]*{colour}", two)


@pytest.mark.parametrize("value", [2.0, -2.0])
def test_the_axis_of_a_constant_points_up(value):
    """Uniformity is below 0."""
    svg = figures.curve("a", "a constant", [(1.0, value)])
    found = re.findall(r'text-anchor: end[^>]* y="([\d.]+)"[^>]*>(\W?)(\d)<', svg)
    ticks = sorted((float(y), (-1 if sign else 1) * int(n)) for y, sign, n in found)
    assert len(ticks) == 5
    assert ticks == sorted(ticks, key=lambda tick: -tick[1])  # an SVG's y grows down


def test_figures_take_the_colour_of_the_page_and_ids_of_their_own():
    points = [(0.0, 1.0), (1.0, 0.5)]
    svg = figures.curve("first", "loss", points)
    assert "loss: 0.5" in svg
    assert "currentColor" in svg
    assert figures._TEXT not in svg
    ids = re.findall(r'id="([^"]+)"', svg)
    assert ids
    assert all(one.startswith("first-") for one in ids)
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', svg):
        assert target in ids
    assert re.match(r"<svg(?![^>]* (width|height)=)", svg)


def test_the_accuracy_figure_names_every_line_with_its_last_value():
    svg = figures.accuracies("a", {"kNN": [(1, 0.1), (2, 0.25)]}, {"supervised": 0.9})
    assert "kNN: 25.0" in svg
    assert "supervised: 90.0" in svg


def test_the_map_has_a_mark_for_every_point_in_order():
    points = np.array([[0.0, 3.0], [1.0, 1.0], [5.0, 2.0]])
    svg = figures.scatter("m", points, ["#ff0000", "#00ff00", "#0000ff"])
    group = svg[svg.index('id="m-points"') :]
    marks = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*(#\w{6})', group)
    x, y = np.array([(float(a), float(b)) for a, b, _ in marks]).T
    assert [colour for *_, colour in marks] == ["#ff0000", "#00ff00", "#0000ff"]
    assert list(np.argsort(x)) == [0, 1, 2]
    assert list(np.argsort(-y)) == [1, 2, 0]  # an SVG's y grows downwards
