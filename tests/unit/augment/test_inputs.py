"""What all operations share: inputs, probabilities, messages."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augmentation import KEY, STILL, call, noise

from simclr_jax import augment as A


def test_to_float_reads_uint8_as_255ths():
    x = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(A.to_float(x), x / 255, rtol=2e-7)
    assert A.to_float(x)[255] == 1
    half = A.to_float(jnp.full((2,), 0.5, jnp.bfloat16))
    assert half.dtype == jnp.float32


@pytest.mark.parametrize(
    "step",
    [
        lambda x: A.flip(KEY, x, probability=0),
        lambda x: A.color_jitter(KEY, x, probability=0),
        lambda x: A.color_jitter(KEY, x, probability=1, **STILL),
        lambda x: A.grayscale(KEY, x, probability=0),
        lambda x: A.gaussian_blur(KEY, x, probability=0),
        lambda x: A.solarize(KEY, x, probability=0),
        lambda x: A.random_affine(KEY, x),
        lambda x: A.erase(KEY, x, probability=0),
        lambda x: A.center(x, size=20),
        A.to_float,
    ],
)
def test_nothing_to_do_keeps_every_bit(step):
    x = noise(3, 20, 20, 3)
    np.testing.assert_array_equal(step(x), x)
    assert not jax.make_jaxpr(step)(x).eqns  # no operation at all


def test_probability_one_reaches_every_image():
    x = noise(50, 2, 3, 3)
    np.testing.assert_array_equal(call(A.flip, x, probability=1.0), x[:, :, ::-1])
    luma = x @ np.float32([0.2989, 0.587, 0.114])  # tf.image.rgb_to_grayscale
    grey = call(A.grayscale, x, probability=1.0)
    np.testing.assert_allclose(grey, luma[..., None].repeat(3, -1), atol=1e-6)
    inverted = call(A.solarize, x, probability=1.0, threshold=0.3)
    np.testing.assert_array_equal(inverted, np.where(x < 0.3, x, 1 - x))
    jittered = call(A.color_jitter, x, probability=1.0)
    assert np.all(np.abs(jittered - x).max((1, 2, 3)) > 1e-4)


@pytest.mark.parametrize(
    "step", [A.flip, A.color_jitter, A.grayscale, A.gaussian_blur, A.solarize, A.erase]
)
def test_each_image_is_changed_with_the_probability(step):
    n, p = 2000, 0.3
    x = np.broadcast_to(noise(1, 20, 2, 3), (n, 20, 2, 3))
    out = np.asarray(jax.jit(lambda key, x: step(key, x, probability=p))(KEY, x))
    changed = np.any(out != x, (1, 2, 3))
    np.testing.assert_array_equal(out[~changed], x[~changed])
    assert abs(changed.mean() - p) < 4 * math.sqrt(p * (1 - p) / n)
    # Neighbours are independent of each other.
    assert abs((changed[1:] & changed[:-1]).mean() - p * p) < 0.03


IMAGES = np.zeros((2, 4, 4, 3), np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: A.flip(KEY, IMAGES[0]), r"\(4, 4, 3\)"),
        (lambda: A.two_views(KEY, IMAGES[0], size=4), r"\(4, 4, 3\)"),
        (lambda: A.flip(KEY, IMAGES.astype(np.int32)), "int32"),
        (lambda: A.to_float(IMAGES > 0), "bool"),
        (lambda: A.flip(KEY, IMAGES, probability=1.5), "1.5"),
        (lambda: A.flip(KEY, IMAGES, probability=math.nan), "nan"),
        (lambda: A.grayscale(KEY, IMAGES, probability=-0.1), "-0.1"),
        (lambda: A.grayscale(KEY, IMAGES[..., :2]), "got 2"),
        (lambda: A.color_jitter(KEY, IMAGES[..., :2]), "got 2"),
        (lambda: A.color_jitter(KEY, IMAGES, contrast=-0.2), "contrast=-0.2"),
        (lambda: A.color_jitter(KEY, IMAGES, hue=0.6), "hue=0.6"),
        (lambda: A.color_jitter(KEY, IMAGES, probability=2), "got 2"),
        (lambda: A.gaussian_blur(KEY, IMAGES, sigma=(2.0, 0.1)), r"\(2.0, 0.1\)"),
        (lambda: A.gaussian_blur(KEY, IMAGES, probability=3), "got 3"),
        (lambda: A.solarize(KEY, IMAGES, threshold=128), "128"),
        (lambda: A.solarize(KEY, IMAGES, probability=3), "got 3"),
        (lambda: A.random_resized_crop(KEY, IMAGES, size=0), "got 0"),
        (
            lambda: A.random_resized_crop(KEY, IMAGES, size=4, scale=(0.1, 1.2)),
            r"\(0.1, 1.2\)",
        ),
        (
            lambda: A.random_resized_crop(KEY, IMAGES, size=4, ratio=(0.0, 1.0)),
            r"\(0.0, 1.0\)",
        ),
        (lambda: A.center(IMAGES, size=-1), "got -1"),
        (lambda: A.center(IMAGES, size=7.5), "size .*got 7.5"),
        (lambda: A.two_views(KEY, IMAGES, size=7.5), "size .*got 7.5"),
        (lambda: A.two_views(KEY, IMAGES[:0], size=4), r"\(0, 4, 4, 3\)"),
        (lambda: A.two_views(KEY, IMAGES[:, :0], size=4), r"\(2, 0, 4, 3\)"),
        (lambda: A.flip(KEY, IMAGES[..., :0]), r"\(2, 4, 4, 0\)"),
        (lambda: A.random_affine(KEY, IMAGES, rotation=-3.0), "rotation=-3.0"),
        (lambda: A.random_affine(KEY, IMAGES, shear=90.0), "shear=90.0"),
        (lambda: A.erase(KEY, IMAGES, probability=2), "got 2"),
        (lambda: A.erase(KEY, IMAGES, scale=(0.0, 0.5)), r"\(0.0, 0.5\)"),
    ],
)
def test_wrong_requests_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: 255 * x, "from 0 to 255; divide those of 0 to 255 by 255"),
        (lambda x: 4 * x - 2, "from -2 to 2"),
        (lambda x: np.where(x < 1, x, np.nan), "from nan to nan"),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_floats_that_are_no_images_are_refused_where_they_are_known(
    change, message, dtype
):
    images = jnp.asarray(change(np.linspace(0, 1, 96, dtype=np.float32)), dtype)
    images = images.reshape(2, 4, 4, 3)
    with pytest.raises(ValueError, match=message):
        A.two_views(KEY, images, size=4)
    with pytest.raises(ValueError, match=message):
        A.center(images, size=4)
    # A jitted function sees no values, as documented.
    assert np.shape(jax.jit(lambda x: A.center(x, size=4))(images)) == (2, 4, 4, 3)


def test_a_resized_image_that_overshoots_is_taken():
    images = jnp.asarray(1.2 * IMAGES + np.float32(-0.1))
    np.testing.assert_array_equal(A.to_float(images), images)
    assert (A.center(images[:, :2], size=4) == 0).all()  # clipped
