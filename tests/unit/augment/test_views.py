"""Whole views: their order of steps, their settings, their draws."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augmentation import EVERYTHING, JITTER, KEY, NOTHING, STILL, call, noise
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from lowering import assert_lowers_for_cuda

from simclr_jax import augment as A


@functools.cache
def jitted_views():
    views = (EVERYTHING, EVERYTHING)
    return jax.jit(functools.partial(A.two_views, views=views, size=20))


def test_two_views_have_the_promised_shape_type_and_range():
    images = jnp.asarray(noise(5, 24, 20, 3) * 255).astype(jnp.uint8)
    for view in jitted_views()(KEY, images):
        assert view.shape == (5, 20, 20, 3)
        assert view.dtype == jnp.float32
        assert 0 <= view.min() < view.max() <= 1


def test_defaults_are_the_cifar_setting():
    # SimCLR appendix B.9: colour strength 0.5, no blur.
    assert A.View()._asdict() == {
        "crop_scale": (0.08, 1.0),
        "crop_ratio": (3 / 4, 4 / 3),
        "flip": 0.5,
        "jitter": 0.8,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "grayscale": 0.2,
        "blur": 0.0,
        "blur_sigma": (0.1, 2.0),
        "solarize": 0.0,
        "solarize_threshold": 0.5,
        "rotation": 0.0,
        "shear": 0.0,
        "erase": 0.0,
        "erase_scale": (0.02, 0.33),
    }
    hash(A.View())


def test_draws_differ_between_images_views_and_keys_and_repeat_with_the_key():
    images = np.broadcast_to(noise(1, 24, 20, 3) * 255, (5, 24, 20, 3))
    images = jnp.asarray(images).astype(jnp.uint8)
    both, again, other = (
        np.concatenate(jitted_views()(key, images))
        for key in (KEY, KEY, jax.random.key(8))
    )
    np.testing.assert_array_equal(both, again)
    for one, two in itertools.combinations([*both, *other], 2):
        assert np.abs(one - two).max() > 0.02


def test_views_have_settings_of_their_own_and_steps_draws_of_their_own():
    x = np.broadcast_to(noise(1, 2, 2, 1), (400, 2, 2, 1))
    mixed = NOTHING._replace(flip=0.5, solarize=0.5, solarize_threshold=0.0)
    same, out = call(A.two_views, x, views=(NOTHING, mixed), size=2)
    np.testing.assert_allclose(same, x, atol=1e-6)
    plain, flipped = (np.abs(out - y).max((1, 2, 3)) for y in (x, x[:, :, ::-1]))
    inverted, both = (np.abs(1 - out - y).max((1, 2, 3)) for y in (x, x[:, :, ::-1]))
    shares = (np.stack([plain, flipped, inverted, both]) < 1e-5).mean(1)
    np.testing.assert_allclose(shares, 0.25, atol=0.1)
    assert math.isclose(shares.sum(), 1)


def test_steps_come_in_order():
    x = noise(2, 20, 20, 3)
    view = NOTHING._replace(
        flip=1.0, grayscale=1.0, blur=1.0, blur_sigma=(1.0, 1.0), solarize=1.0
    )
    out = call(A.augment, x, view=view._replace(solarize_threshold=0.4), size=20)
    x = call(A.grayscale, call(A.flip, x, probability=1.0), probability=1.0)
    x = call(A.gaussian_blur, x, probability=1.0, sigma=(1.0, 1.0))
    x = call(A.solarize, x, probability=1.0, threshold=0.4)
    np.testing.assert_allclose(out, x, atol=1e-5)


def test_a_view_hands_scale_and_ratio_to_the_crop():
    # A quarter of the area at a quarter of the ratio: windows 8 high and 2 wide.
    rows = np.broadcast_to(noise(8, 1, 1), (5, 8, 8, 1))
    view = NOTHING._replace(crop_scale=(0.25, 0.25), crop_ratio=(0.25, 0.25))
    np.testing.assert_allclose(
        call(A.augment, rows, view=view, size=8), rows, atol=1e-6
    )


@pytest.mark.parametrize("name", JITTER)
def test_a_view_hands_each_strength_to_its_operation(name):
    x = 0.3 + 0.2 * noise(3, 6, 6, 3)
    view = NOTHING._replace(jitter=1.0, **STILL | {name: 0.4})
    y = np.asarray(call(A.augment, x, view=view, size=6))
    assert np.abs(y - x).max() > 0.005
    kept = {  # what this operation, and no other, leaves as it is
        "brightness": lambda x: x / x[:, :1, :1],
        "contrast": lambda x: x.mean((1, 2)),
        "saturation": lambda x: np.stack(
            [x.max(-1), (x.max(-1) - np.median(x, -1)) / np.ptp(x, -1)]
        ),
        "hue": lambda x: np.stack([x.max(-1), x.min(-1)]),
    }[name]
    np.testing.assert_allclose(kept(y), kept(x), atol=1e-4)


def test_a_view_hands_its_affine_map_and_erasing_on():
    x = 0.3 + 0.2 * noise(5, 12, 12, 1)
    for change in ({"rotation": 20.0}, {"shear": 20.0}, {"erase": 1.0}):
        y = np.asarray(call(A.augment, x, view=NOTHING._replace(**change), size=12))
        assert np.abs(y - x).max() > 0.05, change
    wide = call(
        A.augment, x, view=NOTHING._replace(erase=1.0, erase_scale=(1, 1)), size=12
    )
    assert np.mean(np.asarray(wide) == 0) > 0.4


def test_jitted_sharded_and_eager_results_are_the_same():
    images = jnp.asarray(noise(4, 20, 20, 3))
    step = functools.partial(A.augment, view=A.View(), size=20)
    jitted = jax.jit(step)(KEY, images)
    np.testing.assert_allclose(jitted, step(KEY, images), atol=2e-5)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(jax.jit(step)(KEY, sharded), jitted, atol=2e-5)


def test_lowers_for_cuda_and_keeps_float32_under_x64():
    def both(key, images):
        return A.two_views(key, images, views=(EVERYTHING, A.View()), size=20)

    shapes = jax.eval_shape(lambda: (KEY, jnp.zeros((4, 24, 24, 3), jnp.uint8)))
    assert_lowers_for_cuda(jax.jit(both), *shapes)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        assert {x.dtype for x in jax.eval_shape(both, *shapes)} == {jnp.dtype("f4")}
