"""Losses of rows of any finite length, and of any logits, against float64 NumPy.

`tests/loss_oracles.py` has the oracle.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import ORACLES, distillation_64

from simclr_jax.evaluation.neighbours import normalize
from simclr_jax.losses import (
    contrastive_accuracy,
    distillation,
    info_nce,
    l2_normalize,
    nt_xent,
)

N, D = 6, 5
SCALES = [1e-38, 1e-20, 1e-12, 1e-7, 1e-6, 1e-3, 1.0, 1e3, 1e16, 1.8e16, 1e19, 1e20]
SCALES += [1e30, 1e37]
LARGEST = float(np.finfo(np.float32).max)


def rows(seed, *shape):
    draws = np.random.default_rng(seed).standard_normal(shape)
    return (draws / np.abs(draws).max()).astype(np.float32)


@pytest.mark.parametrize("name", ORACLES)
def test_rows_of_any_length(name):
    """Each scale against each of a few others, and within one batch."""
    loss, oracle = ORACLES[name]
    loss = jax.jit(loss)
    a, b = rows(0, N, D), rows(1, N, D)
    for scale in SCALES:
        for other in (1e-20, 1.0, 1e20, 1e37):
            x, y = np.float32(scale) * a, np.float32(other) * b
            np.testing.assert_allclose(
                loss(x, y),
                oracle(x, y),
                rtol=2e-5,
                atol=2e-6,
                err_msg=f"{scale, other}",
            )
    mixed = a * np.float32(np.resize(SCALES, (N, 1)))
    np.testing.assert_allclose(loss(mixed, b), oracle(mixed, b), rtol=2e-5, atol=2e-6)


def test_lengths_that_float32_can_square_keep_every_bit():
    """Older results stay as they are: the formula without the scaling."""
    x = np.concatenate([rows(2, 50, 128) * np.float32(s) for s in (1e-9, 1, 1e5, 1e15)])

    @jax.jit
    def plain(x):
        squares = jnp.sum(x * x, -1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))

    np.testing.assert_array_equal(jax.jit(l2_normalize)(x), plain(x))


def test_the_longest_and_the_widest_rows():
    longest = np.full((1, 128), LARGEST, np.float32)
    np.testing.assert_allclose(l2_normalize(longest), 128**-0.5, rtol=1e-6)
    # Just below and just above the thresholds for scaling, 2^33 and 2^85.
    for value in (2.0**33, 2.0**33 * 1.001, 2.0**85, 2.0**85 * 1.001, LARGEST):
        wide = np.full((1, 2**17), value, np.float32)
        np.testing.assert_allclose(l2_normalize(wide), 2**-8.5, rtol=1e-4)
    alone = np.zeros((1, 4), np.float32)
    alone[0, 2] = 2.0**33 * 1.001  # the shortest row that is scaled
    np.testing.assert_allclose(l2_normalize(alone), [[0, 0, 1, 0]], rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_not_hidden(value):
    x = rows(0, N, D)
    x[1, 2] = value
    assert np.isnan(np.asarray(l2_normalize(x))[1]).any()
    assert np.isnan(nt_xent(x, rows(1, N, D))).any()


@pytest.mark.parametrize(
    "scale", [1e-3, 1e9, 2e10, 1e13, 1e16, 1e20, 3e25, 4e25, 5e25, 1e30, 1e34]
)
def test_a_gradient_is_that_of_the_direction(scale):
    """f(c x) = f(x), so the gradient at c x is that at x divided by c."""
    a, b = rows(0, N, D), rows(1, N, D)
    gradient = jax.jit(jax.grad(lambda a: nt_xent(a, b).mean()))
    actual = np.asarray(gradient(np.float32(scale) * a), np.float64) * scale
    np.testing.assert_allclose(actual, gradient(a), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*ORACLES, "distillation"])
def test_any_finite_rows_have_finite_losses_and_gradients(name):
    """Seeded draws over all exponents of float32, zeros among them."""
    loss = ORACLES.get(name, (distillation,))[0]
    grad = jax.jit(jax.value_and_grad(lambda a, b: loss(a, b).mean(), (0, 1)))
    draw = np.random.default_rng(3)
    # Logits whose difference is beyond float32 have an infinite cross-entropy.
    most = 37.0 if name == "distillation" else 38.5
    for _ in range(200):
        exponents = draw.uniform(-45, most, (2, N, D))
        signs = draw.choice([-1, 0, 1], (2, N, D))
        a, b = (signs * 10.0**exponents).clip(-LARGEST, LARGEST).astype(np.float32)
        value, gradients = grad(a, b)
        assert np.isfinite(value), (a, b)
        assert all(np.isfinite(g).all() for g in gradients), (a, b)


BOUNDS = {  # for cosines in [-1, 1] and N images
    "nt_xent": (
        np.log(1 + (2 * N - 2) * np.exp(-4)),
        np.log(1 + (2 * N - 2) * np.exp(4)),
    ),
    "info_nce": (np.log(1 + (N - 1) * np.exp(-10)), np.log(1 + (N - 1) * np.exp(10))),
    "byol_regression": (0, 4),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_range_and_invariance_to_lengths_and_rotation(name):
    loss, (low, high) = jax.jit(ORACLES[name][0]), BOUNDS[name]
    draw = np.random.default_rng(4)
    for _ in range(50):
        a, b = draw.standard_normal((2, N, D)).astype(np.float32)
        value = np.asarray(loss(a, b))
        assert (value >= low - 1e-5).all()
        assert (value <= high + 1e-5).all()
        lengths = (10.0 ** draw.uniform(-4, 36, (N, 1))).astype(np.float32)
        np.testing.assert_allclose(loss(lengths * a, b), value, rtol=1e-4, atol=1e-5)
        turn = np.linalg.qr(draw.standard_normal((D, D)))[0].astype(np.float32)
        np.testing.assert_allclose(
            loss(a @ turn, b @ turn), value, rtol=1e-4, atol=1e-5
        )


def test_accuracy_of_rows_of_any_length():
    eye = np.eye(4, dtype=np.float32)
    for scale in (1e-3, 1e20, LARGEST):
        assert contrastive_accuracy(np.float32(scale) * eye, eye) == 1
        assert contrastive_accuracy(np.float32(scale) * eye, eye[::-1]) == 0


@pytest.mark.parametrize("scale", [1e-34, 1e-20, 1e-13, 1e-11, 1.0, 1e17, 1e20, 1e37])
def test_neighbours_are_of_directions_alone(scale):
    x = rows(0, N, D)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(normalize(jnp.float32(scale) * x), expected, rtol=1e-5)
    assert (normalize(jnp.zeros((2, 3))) == 0).all()


# Distillation


@pytest.mark.parametrize("t", [0.01, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e3, 1e20, 1e35])
def test_logits_of_any_size(scale, t):
    teacher = np.float32(scale) * rows(0, N, D)
    student = np.float32(scale) * rows(1, N, D)
    for s, k in ((student, teacher), (teacher, teacher), (rows(1, N, D), teacher)):
        actual = jax.jit(distillation)(s, k, temperature=t)
        expected = distillation_64(s, k, t)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_logit_that_overflows_when_divided():
    logits = np.float32([[1e37, 0, -1e37], [1e37, 1e37, 0]])
    actual = distillation(logits, logits, temperature=0.01)
    np.testing.assert_allclose(actual, [0, np.log(2)], atol=1e-6)
    # The teacher is sure of what is 2e38 less likely than the student's choice.
    other = np.float32([[1e38, -1e38]])
    actual = distillation(other, -other, temperature=2.0)
    np.testing.assert_allclose(actual, [1e38], rtol=1e-5)
    assert distillation(other, -other, temperature=0.01) == np.inf  # 2e40


def test_a_class_that_both_rule_out():
    ruled_out = -np.inf
    student = np.float32([[1.0, 2.0, ruled_out]])
    teacher = np.float32([[0.5, -0.5, ruled_out]])

    def loss(student):
        return distillation(student, teacher, temperature=0.5)[0]

    value, gradient = jax.value_and_grad(loss)(student)
    without = distillation(student[:, :2], teacher[:, :2], temperature=0.5)[0]
    np.testing.assert_allclose(value, without, rtol=1e-6)
    # (softmax(student / t) - softmax(teacher / t)) / t; 0 for the class.
    e, k = np.exp([2.0, 4.0]), np.exp([1.0, -1.0])
    expected = (e / e.sum() - k / k.sum()) / 0.5
    np.testing.assert_allclose(gradient, [[*expected, 0]], rtol=1e-5)
    # Only the student rules it out: an infinite surprise. Only the teacher: none.
    assert distillation(student, np.zeros((1, 3)))[0] == np.inf
    assert np.isfinite(distillation(np.zeros((1, 3)), teacher)[0])
    assert np.isnan(distillation(np.full((1, 3), ruled_out), teacher)[0])


@pytest.mark.parametrize("temperature", [1e-50, 1e-40, 1e39, np.inf])
def test_a_temperature_that_float32_cannot_hold_is_refused(temperature):
    z = np.ones((3, 4), np.float32)
    for loss in (nt_xent, info_nce, distillation):
        with pytest.raises(ValueError, match=r"temperature must be positive .* got "):
            loss(z, z, temperature=temperature)


def test_a_block_size_that_is_not_whole_is_refused():
    with pytest.raises(ValueError, match=r"block_size .* got 2\.5"):
        nt_xent(jnp.ones((3, 4)), jnp.ones((3, 4)), block_size=2.5)  # type: ignore
