"""What holds for any input: losses and augmentation under drawn inputs.

Hypothesis draws the inputs, the same ones in every run. All shapes are fixed, so that
each function compiles once.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augmentation import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from loss_oracles import ORACLES, distillation_64

from simclr_jax import augment as A
from simclr_jax.losses import contrastive_accuracy, distillation, l2_normalize

N, D = 4, 3
B, HEIGHT, WIDTH, SIZE = 2, 10, 8, 8
LARGEST = float(np.finfo(np.float32).max)
LOSSES = {name: loss for name, (loss, _) in ORACLES.items()}

drawn = settings(
    max_examples=25,
    deadline=None,  # the first example compiles
    derandomize=True,
    database=None,
)


def rows(largest):
    """float32 [N, D] of numbers up to `largest`, both signs."""
    largest = float(np.float32(largest))
    numbers = st.floats(-largest, largest, width=32, allow_subnormal=False)
    return arrays.arrays(np.float32, (N, D), elements=numbers)


def scaled(low, high):
    """float32 [N, D]: each row is drawn in [-1, 1] times its own 10^[low, high]."""
    exponents = arrays.arrays(np.float64, (N, 1), elements=st.floats(low, high))
    return st.builds(
        lambda x, e: (x * 10.0**e).astype(np.float32), rows(1.0), exponents
    )


def directions():
    """float32 [N, D]: rows of a length from 0.1 to 2, none of them nearly zero."""
    seeds = st.integers(0, 2**32 - 1)
    lengths = arrays.arrays(np.float64, (N, 1), elements=st.floats(0.1, 2.0))

    def build(seed, length):
        x = np.random.default_rng(seed).standard_normal((N, D))
        return (length * x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4")

    return st.builds(build, seeds, lengths)


def orders():
    return st.permutations(range(N)).map(np.array)


@cache
def jitted(loss):
    return jax.jit(loss)


@cache
def graded(loss):
    return jax.jit(jax.value_and_grad(lambda a, b: loss(a, b).mean(), (0, 1)))


# Losses ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@drawn
@given(a=rows(LARGEST), b=rows(LARGEST))
def test_any_finite_rows_have_a_finite_loss_and_gradient(name, a, b):
    value, gradients = graded(LOSSES[name])(a, b)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in gradients)
    assert 0 <= contrastive_accuracy(a, b) <= 1


@drawn
@given(a=rows(1e37), b=rows(1e37))
def test_any_finite_logits_have_a_finite_distillation(a, b):
    """Up to 1e37: beyond, the cross-entropy itself may be more than float32 holds."""
    value, gradients = graded(distillation)(a, b)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in gradients)


@pytest.mark.parametrize("name", LOSSES)
@drawn
@given(a=scaled(-20, 20), b=scaled(-20, 20))
def test_losses_are_those_of_float64(name, a, b):
    """Rows shorter than 1e-6, down to zero, are drawn too: they count for less."""
    loss, oracle = ORACLES[name]
    actual = jitted(loss)(a, b)
    np.testing.assert_allclose(actual, oracle(a, b), rtol=2e-5, atol=4e-6)


@drawn
@given(a=scaled(-20, 20), b=scaled(-20, 20))
def test_distillation_is_that_of_float64(a, b):
    actual = jitted(distillation)(a, b)
    np.testing.assert_allclose(actual, distillation_64(a, b, 1.0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@drawn
@given(a=directions(), b=directions(), order=orders())
def test_the_order_of_pairs_does_not_matter(name, a, b, order):
    loss = jitted(LOSSES[name])
    before, after = np.asarray(loss(a, b)), loss(a[order], b[order])
    both = np.concatenate([order, order + N])[: len(before)]
    np.testing.assert_allclose(after, before[both], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", LOSSES)
@drawn
@given(
    a=directions(),
    b=directions(),
    exponents=arrays.arrays(np.float64, (2, N, 1), elements=st.floats(-4.5, 36)),
)
def test_the_length_of_a_row_does_not_matter(name, a, b, exponents):
    """As long as it is above 1e-6."""
    loss = jitted(LOSSES[name])
    x, y = ((z * 10.0**e).astype("f4") for z, e in zip((a, b), exponents, strict=True))
    np.testing.assert_allclose(loss(x, y), loss(a, b), rtol=2e-5, atol=4e-6)


@pytest.mark.parametrize("name", ["nt_xent", "nt_xent in blocks", "byol_regression"])
@drawn
@given(a=directions(), b=directions())
def test_the_two_sides_are_alike(name, a, b):
    """nt_xent has the anchors of both sides, a's first; BYOL's has one each pair."""
    loss = jitted(LOSSES[name])
    one, other = np.asarray(loss(a, b)), np.asarray(loss(b, a))
    other = np.roll(other, N) if len(other) == 2 * N else other
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


@drawn
@given(x=rows(LARGEST))
def test_a_normalised_row_has_at_most_length_1(x):
    lengths = np.linalg.norm(np.asarray(jitted(l2_normalize)(x), np.float64), axis=1)
    assert (lengths <= 1 + 1e-6).all()
    long = np.linalg.norm(x.astype(np.float64), axis=1) > 1e-6
    np.testing.assert_allclose(lengths[long], 1, rtol=1e-5)


# Augmentation ---------------------------------------------------------------------


def floats(channels=3):
    numbers = st.floats(0, 1, width=32, allow_subnormal=False)
    return arrays.arrays(np.float32, (B, HEIGHT, WIDTH, channels), elements=numbers)


def bytes_(channels=3):
    return arrays.arrays(np.uint8, (B, HEIGHT, WIDTH, channels))


keys = st.integers(0, 2**32 - 1).map(jax.random.key)

EVERY = EVERYTHING._replace(rotation=30.0, shear=15.0, erase=0.5, grayscale=0.5)


@cache
def step(function, **options):
    return jax.jit(partial(function, **options))


@drawn
@given(key=keys, images=st.one_of(floats(), bytes_()))
def test_views_of_any_image_are_images(key, images):
    views = step(A.two_views, views=(EVERY, A.View()), size=SIZE)(key, images)
    again = step(A.two_views, views=(EVERY, A.View()), size=SIZE)(key, images)
    for view, same in zip(views, again, strict=True):
        assert view.shape == (B, SIZE, SIZE, 3)
        assert view.dtype == jnp.float32
        assert np.isfinite(view).all()
        assert view.min() >= 0
        assert view.max() <= 1
        np.testing.assert_array_equal(view, same)  # of the same key


@drawn
@given(key=keys, images=bytes_())
def test_bytes_are_the_floats_that_they_stand_for(key, images):
    """To rounding, which the division by 255 brings."""
    draw = step(A.random_resized_crop, size=SIZE, scale=(0.2, 1.0), ratio=(0.75, 1.3))
    of_floats = draw(key, images.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(draw(key, images), of_floats, atol=1e-5)


@drawn
@given(key=keys, images=floats())
def test_flipped_twice_is_the_image(key, images):
    flip = step(A.flip, probability=1.0)
    once = flip(key, images)
    np.testing.assert_array_equal(once, images[:, :, ::-1])
    np.testing.assert_array_equal(flip(key, once), images)


@drawn
@given(key=keys, images=st.one_of(floats(), bytes_()))
def test_grey_has_equal_channels_within_those_of_the_image(key, images):
    grey = np.asarray(step(A.grayscale, probability=1.0)(key, images))
    assert grey.shape == images.shape
    np.testing.assert_array_equal(grey, np.repeat(grey[..., :1], 3, -1))
    pixels = images / np.float32(255) if images.dtype == np.uint8 else images
    # TensorFlow's weights of the colours, 0.2989, 0.587 and 0.114, sum to 0.9999.
    assert (grey >= 0.9999 * pixels.min(-1, keepdims=True) - 1e-6).all()
    assert (grey <= pixels.max(-1, keepdims=True) + 1e-6).all()


@drawn
@given(key=keys, images=floats(channels=1))
def test_a_grey_image_stays_one(key, images):
    view = step(A.two_views, views=(EVERY, A.View()), size=SIZE)(key, images)[0]
    assert view.shape == (B, SIZE, SIZE, 1)
    assert 0 <= view.min() <= view.max() <= 1


@drawn
@given(key=keys, value=st.floats(0, 1, width=32, allow_subnormal=False))
def test_an_image_of_one_colour_has_crops_and_blurs_of_that_colour(key, value):
    """The weights of a resampled pixel sum to 1. On a GPU they are TF32."""
    images = np.full((B, 40, 32, 3), value, np.float32)  # below 20, no blur
    crop = step(A.random_resized_crop, size=SIZE, scale=(0.2, 1.0), ratio=(0.75, 1.3))
    blur = step(A.gaussian_blur, probability=1.0, sigma=(0.1, 2.0))
    for made in (crop(key, images), blur(key, images)):
        np.testing.assert_allclose(made, value, atol=2e-3)
