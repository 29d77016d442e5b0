"""Scores without labels, against closed forms and the papers' formulas in NumPy."""

import math
from itertools import combinations

import jax.numpy as jnp
import numpy as np
import pytest

from simclr_jax import evaluation


def by_definition(features, eps=1e-7):
    """RankMe as the paper writes it, from the singular values themselves."""
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    shares = values / np.abs(values).sum() + eps
    return math.exp(-sum(p * math.log(p) for p in shares))


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (1, 5)])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_rankme_is_the_papers(shape, scale):
    rng = np.random.default_rng(0)
    # Directions of very different weight, and a mean, which is not taken away.
    features = rng.normal(size=shape) * np.geomspace(1, 1e-4, shape[1]) + 0.3
    features = (scale * features).astype(np.float32)
    expected = by_definition(features)
    assert evaluation.rankme(features) == pytest.approx(expected, rel=1e-6)
    assert evaluation.rankme(jnp.asarray(features)) == pytest.approx(expected, rel=1e-6)


def test_rankme_counts_directions():
    assert evaluation.rankme(np.eye(7, 9)) == pytest.approx(7, rel=1e-4)
    assert evaluation.rankme(-3 * np.ones([20, 6])) == pytest.approx(1, rel=1e-4)
    # Singular values 3 and 1: shares 3/4 and 1/4.
    two = np.diag([3.0, 1.0])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert evaluation.rankme(two) == pytest.approx(math.exp(entropy), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rankme_of_nothing_is_no_number(value):
    assert math.isnan(evaluation.rankme(np.full([4, 3], value)))


def test_alignment_and_uniformity_are_the_papers():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 9, 4)) * rng.uniform(0.1, 10, (2, 9, 1))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    squares = ((a - b) ** 2).sum(1)
    assert evaluation.alignment(x, y) == pytest.approx(squares.mean())
    cubes = (squares**1.5).mean()
    assert evaluation.alignment(x, y, alpha=3.0) == pytest.approx(cubes)
    pairs = [((p - q) ** 2).sum() for p, q in combinations(a, 2)]
    for t in (2.0, 0.5):
        expected = math.log(np.mean([math.exp(-t * d) for d in pairs]))
        assert evaluation.uniformity(x, t=t) == pytest.approx(expected)


def test_one_point_and_opposite_points():
    point = np.tile([3.0, 4.0], (5, 1))
    assert evaluation.alignment(point, 2 * point) == pytest.approx(0)
    assert evaluation.alignment(point, -point) == pytest.approx(4)
    assert evaluation.uniformity(point) == pytest.approx(0)
    assert evaluation.uniformity(np.array([[1.0], [-2.0]])) == pytest.approx(-8)


def test_points_all_around_the_circle():
    """The mean of exp(-t d^2) over the circle is exp(-2t) I0(2t). The sum over n evenly
    spaced points is n times that, the pair of a point with itself included."""
    n, t = 400, 2.0
    angles = 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mean = math.exp(-2 * t) * np.i0(2 * t)
    expected = math.log((n * mean - 1) / (n - 1))
    assert evaluation.uniformity(circle, t=t) == pytest.approx(expected)
    assert evaluation.rankme(circle) == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: evaluation.rankme(np.zeros(3)),
        lambda: evaluation.rankme(np.zeros([0, 3])),
        lambda: evaluation.alignment(np.ones([3, 2]), np.ones([2, 2])),
        lambda: evaluation.uniformity(np.ones([1, 2])),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match="need"):
        call()
