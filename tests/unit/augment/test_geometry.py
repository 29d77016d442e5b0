"""Crops, flips, affine maps and erasing against PIL, SciPy and distributions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augmentation import KEY, assert_uniform, call, noise
from PIL import Image
from scipy import ndimage, stats

from simclr_jax import augment as A
from simclr_jax.augment import geometry
from simclr_jax.augment.inputs import uniform


def windows(*arguments):
    """[4, B]: top, left, height, width of random_resized_crop's windows under KEY."""
    draw = jax.jit(geometry.windows, static_argnums=range(1, 6))
    return np.stack(draw(KEY, *arguments))


def test_whole_window_at_its_own_size_is_the_image():
    x = noise(3, 15, 15, 3)
    out = call(A.random_resized_crop, x, size=15, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_allclose(out, x, atol=1e-6)


@pytest.mark.parametrize("height, width, size", [(40, 33, 9), (9, 12, 32)])
def test_crop_equals_pil_crop_and_bicubic_resize(height, width, size):
    x = np.round(noise(8, height, width, 2))  # black and white: bicubic overshoots
    scale, ratio = (0.1, 1.0), (0.5, 2.0)
    out = call(A.random_resized_crop, x, size=size, scale=scale, ratio=ratio)
    drawn_windows = windows(8, height, width, scale, ratio).T.astype(int)
    overshoot = False
    for i, (top, left, tall, wide) in enumerate(drawn_windows):
        for c in range(2):
            window = Image.fromarray(x[i, top : top + tall, left : left + wide, c])
            expected = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC))
            overshoot |= expected.max() > 1.01
            np.testing.assert_allclose(out[i, ..., c], expected.clip(0, 1), atol=1e-5)
    assert overshoot


def test_window_area_ratio_and_place_are_uniform():
    n, side = 5000, 1000
    scale, ratio = (0.08, 0.4), (3 / 4, 4 / 3)  # every candidate fits
    top, left, tall, wide = windows(n, side, side, scale, ratio)
    assert_uniform(tall * wide / side**2, *scale)
    assert_uniform(np.log(wide / tall), *np.log(ratio))
    places = top / (side - tall), left / (side - wide)
    assert_uniform(places[0], 0, 1)
    assert_uniform(places[1], 0, 1)
    assert abs(np.corrcoef(*places)[0, 1]) < 0.05


def test_windows_that_do_not_fit_are_drawn_again():
    n, side, scale, ratio = 5000, 1000, (0.08, 1.0), (3 / 4, 4 / 3)
    top, left, tall, wide = windows(n, side, side, scale, ratio)
    assert np.all((top >= 0) & (top + tall <= side) & (left >= 0))
    assert np.all((left + wide <= side) & (tall >= 1) & (wide >= 1))
    rng = np.random.default_rng(0)
    area = rng.uniform(*scale, 4 * n)
    aspect = np.exp(rng.uniform(*np.log(ratio), 4 * n))
    accepted = (area * aspect <= 1) & (area / aspect <= 1)
    assert stats.ks_2samp(tall * wide / side**2, area[accepted]).pvalue > 1e-3
    assert stats.ks_2samp(wide / tall, aspect[accepted]).pvalue > 1e-3


def test_every_place_is_reached_in_small_images():
    top, left, tall, wide = windows(500, 4, 4, (0.25, 0.25), (1.0, 1.0))
    assert np.all((tall == 2) & (wide == 2))
    assert set(zip(top.tolist(), left.tolist(), strict=True)) == set(
        itertools.product((0.0, 1.0, 2.0), repeat=2)
    )


@pytest.mark.parametrize(
    "height, width, window", [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10))]
)
def test_centred_window_where_none_fits(height, width, window):
    # torchvision's fallback: the whole image cut down to the nearest allowed ratio.
    got = windows(9, height, width, (1.0, 1.0), (3 / 4, 4 / 3)).T
    np.testing.assert_array_equal(got, np.broadcast_to(window, got.shape))


@pytest.mark.parametrize("height, width, size", [(40, 48, 20), (16, 16, 28)])
def test_center_resizes_the_middle_seven_eighths(height, width, size):
    x = noise(2, height, width, 3)
    out = A.center(x, size=size)
    side = round(0.875 * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    for i, c in np.ndindex(2, 3):
        window = Image.fromarray(x[i, top : top + side, left : left + side, c])
        expected = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(out[i, ..., c], expected.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("height, width", [(21, 21), (16, 25)])
def test_affine_equals_scipy_with_pil_rotation_and_shear(height, width):
    """A turn is PIL's `rotate`: counterclockwise about the centre; bilinear."""
    x = noise(6, height, width, 2)
    out = call(A.random_affine, x, rotation=40.0, shear=30.0)
    draws = np.float64(uniform(KEY, 2, 6))
    turns, leans = np.deg2rad((2 * draws - 1) * [[40.0], [30.0]])
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    for i, c in np.ndindex(6, 2):
        cos, sin = math.cos(turns[i]), math.sin(turns[i])
        # (y, x) with y downwards: a column leans right upwards, then all is turned.
        shear = np.array([[1, 0], [-math.tan(leans[i]), 1]])
        turn = np.array([[cos, -sin], [sin, cos]])
        backwards = np.linalg.inv(turn @ shear)
        expected = ndimage.affine_transform(
            np.float64(x[i, ..., c]),
            backwards,
            middle - backwards @ middle,
            order=1,
            mode="grid-constant",
        )
        np.testing.assert_allclose(out[i, ..., c], expected, atol=2e-5)


def test_a_quarter_turn_is_counterclockwise():
    x = noise(1, 8, 8, 1)
    turned = geometry.affine(jnp.asarray(x), jnp.array([math.pi / 2]), jnp.zeros(1))
    np.testing.assert_allclose(turned[0], np.rot90(x[0]), atol=1e-5)
    pil = Image.fromarray(x[0, ..., 0]).rotate(90)
    np.testing.assert_allclose(turned[0, ..., 0], np.asarray(pil), atol=1e-5)


def test_a_column_leans_to_the_right_upwards():
    x = np.zeros((1, 9, 9, 1), np.float32)
    x[0, :, 4] = 1
    leant = geometry.affine(jnp.asarray(x), jnp.zeros(1), jnp.ones(1))
    np.testing.assert_allclose(leant[0, ..., 0], np.eye(9)[::-1], atol=1e-6)


def test_turn_and_lean_are_uniform_to_either_side(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        geometry, "affine", lambda x, turn, lean: seen.update(turn=turn, lean=lean) or x
    )
    A.random_affine(KEY, jnp.zeros((3000, 2, 2, 1)), rotation=40.0, shear=30.0)
    assert_uniform(np.rad2deg(seen["turn"]), -40, 40)
    assert_uniform(np.rad2deg(np.arctan(seen["lean"])), -30, 30)


def test_erasing_blackens_one_window_of_the_area_asked_for():
    x = np.ones((3000, 40, 40, 1), np.float32)
    ratio = (0.5, 2.0)
    out = call(A.erase, x, probability=1.0, scale=(0.1, 0.3), ratio=ratio)
    gone = np.asarray(out)[..., 0] == 0
    tall, wide = gone.any(2).sum(1), gone.any(1).sum(1)
    np.testing.assert_array_equal(gone.sum((1, 2)), tall * wide)  # a whole window
    assert_uniform(tall * wide / 1600 + (noise(3000) - 0.5) * 0.01, 0.1, 0.3)
    # Sides are rounded to whole geometry.
    assert ((wide + 0.5) / (tall - 0.5) >= 0.5).all()
    assert ((wide - 0.5) / (tall + 0.5) <= 2.0).all()
    middles = gone.mean(0)
    assert middles[20, 20] > middles[0, 0] > 0  # anywhere, the corners included
    assert (np.asarray(out)[~gone[..., None]] == 1).all()
