"""Augmentation against PIL, SciPy and colorsys, and against its distributions."""

import colorsys
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image
from scipy import ndimage, stats

from simclr_jax import augment as A

KEY = jax.random.key(7)
EVERYTHING = A.View(
    brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, solarize=0.5
)
# A view that leaves a square image as it is, to switch single steps on.
NOTHING = A.View(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip=0.0,
    jitter=0.0,
    grayscale=0.0,
)
JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
STILL = dict.fromkeys(JITTER, 0.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def colours(batch, side=4):
    """Random colours, and the ones where HSV has corners: greys and pure colours."""
    images = noise(batch, side, side, 3)
    corners = list(itertools.product((0.0, 1.0), repeat=3)) + [(0.5, 0.5, 0.5)]
    images.reshape(batch, -1, 3)[:, : len(corners)] = corners
    return images


def assert_uniform(values, low, high):
    """Kolmogorov-Smirnov: off by 3% of the range or more fails with 3,000 values."""
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


# References: one image or batch of channel-last pixels at a time, in float64.


def brightness(x, factor):
    return np.clip(x * factor, 0, 1)


def contrast(x, factor):
    mean = x.mean((1, 2), keepdims=True)
    return np.clip((x - mean) * factor + mean, 0, 1)


def saturation(x, factor):
    h, s, v = np.vectorize(colorsys.rgb_to_hsv)(*np.moveaxis(x, -1, 0))
    s = np.clip(s * np.broadcast_to(factor, x.shape)[..., 0], 0, 1)
    return np.stack(np.vectorize(colorsys.hsv_to_rgb)(h, s, v), -1)


def hue(x, turn):
    h, s, v = np.vectorize(colorsys.rgb_to_hsv)(*np.moveaxis(x, -1, 0))
    h = (h + np.broadcast_to(turn, x.shape)[..., 0]) % 1
    return np.stack(np.vectorize(colorsys.hsv_to_rgb)(h, s, v), -1)


REFERENCES = dict(brightness=brightness, contrast=contrast, saturation=saturation)
REFERENCES |= dict(hue=hue)


def drawn(name, strength, batch):
    """What color_jitter draws for one operation under KEY, measured on its output."""
    probe = {  # two pixels that no factor below 2 clips
        "brightness": [[0.4, 0.4, 0.4], [0.4, 0.4, 0.4]],
        "contrast": [[0.4, 0.4, 0.4], [0.6, 0.6, 0.6]],
        "saturation": [[0.5, 0.3, 0.3], [0.5, 0.3, 0.3]],
        "hue": [[0.9, 0.1, 0.1], [0.9, 0.1, 0.1]],
    }[name]
    images = np.broadcast_to(np.float32(probe)[:, None], (batch, 2, 1, 3))
    options = STILL | {name: strength}
    out = np.float64(A.color_jitter(KEY, images, probability=1.0, **options))
    first, second = out[:, 0, 0], out[:, 1, 0]
    if name == "brightness":
        return first[:, 0] / 0.4
    if name == "contrast":
        return (second - first)[:, 0] / 0.2
    if name == "saturation":
        return (1 - first[:, 1] / first[:, 0]) / 0.4
    turns = np.vectorize(colorsys.rgb_to_hsv)(*first.T)[0]
    return (turns + 0.5) % 1 - 0.5


def per_image(values):
    return np.asarray(values)[:, None, None, None]


# Whole views


def test_two_views_have_the_promised_shape_type_and_range():
    images = jnp.asarray(noise(6, 24, 20, 3) * 255).astype(jnp.uint8)
    views = A.two_views(KEY, images, views=(EVERYTHING, A.View()), size=20)
    for view in views:
        assert view.shape == (6, 20, 20, 3)
        assert view.dtype == jnp.float32
        assert 0 <= view.min() < view.max() <= 1


def test_defaults_are_the_cifar_setting():
    # SimCLR appendix B.9: colour strength 0.5, no blur.
    view = A.View()
    assert view[:2] == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert view[2:9] == (0.5, 0.8, 0.4, 0.4, 0.4, 0.1, 0.2)
    assert view[9:] == (0.0, (0.1, 2.0), 0.0, 0.5)
    hash(view)


def test_draws_differ_between_images_views_and_keys_and_repeat_with_the_key():
    images = np.broadcast_to(noise(1, 12, 12, 3), (5, 12, 12, 3))
    draw = jax.jit(lambda key: jnp.stack(A.two_views(key, images, size=12)))
    both = draw(KEY)
    np.testing.assert_array_equal(both, draw(KEY))
    every = np.concatenate([*both, *draw(jax.random.key(8))]).reshape(20, -1)
    for one, other in itertools.combinations(every, 2):
        assert np.abs(one - other).max() > 0.02


def test_jit_equals_eager():
    images = noise(3, 20, 20, 3)
    eager = A.augment(KEY, images, view=EVERYTHING, size=20)
    jitted = jax.jit(A.augment, static_argnames=("view", "size"))
    again = jitted(KEY, images, view=EVERYTHING, size=20)
    np.testing.assert_allclose(again, eager, atol=2e-5)


def test_sharded_batch_equals_unsharded():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    images = jnp.asarray(noise(4, 20, 20, 3))
    augmented = jax.jit(lambda x: A.augment(KEY, x, view=EVERYTHING, size=20))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(augmented(sharded), augmented(images), atol=2e-5)


def test_lowers_for_cuda_and_keeps_float32_under_x64_and_strict_promotion():
    def both(key, images):
        return A.two_views(key, images, views=(EVERYTHING, A.View()), size=20)

    shapes = jax.eval_shape(lambda: (KEY, jnp.zeros((4, 24, 24, 3), jnp.uint8)))
    exported = jax.export.export(jax.jit(both), platforms=["cuda"])(*shapes)
    assert exported.platforms == ("cuda",)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        assert {x.dtype for x in jax.eval_shape(both, *shapes)} == {jnp.dtype("f4")}


def test_grey_images_have_one_channel_throughout():
    images = noise(3, 20, 20, 1)
    assert A.augment(KEY, images, view=EVERYTHING, size=8).shape == (3, 8, 8, 1)
    still = A.color_jitter(
        KEY, images, probability=1.0, **STILL | dict(saturation=0.4, hue=0.1)
    )
    np.testing.assert_array_equal(still, images)
    np.testing.assert_array_equal(A.grayscale(KEY, images, probability=1.0), images)
    jittered = A.color_jitter(KEY, images, probability=1.0, **JITTER)
    options = JITTER | dict(saturation=0.0, hue=0.0)
    three = A.color_jitter(KEY, images.repeat(3, -1), probability=1.0, **options)
    np.testing.assert_allclose(jittered, three[..., :1], atol=1e-6)


def test_steps_come_in_order():
    x = noise(2, 20, 20, 3)
    view = NOTHING._replace(
        flip=1.0, grayscale=1.0, blur=1.0, blur_sigma=(1.0, 1.0), solarize=1.0
    )
    out = A.augment(KEY, x, view=view._replace(solarize_threshold=0.4), size=20)
    x = A.grayscale(KEY, A.flip(KEY, x, probability=1.0), probability=1.0)
    x = A.gaussian_blur(KEY, x, probability=1.0, sigma=(1.0, 1.0))
    x = A.solarize(KEY, x, probability=1.0, threshold=0.4)
    np.testing.assert_allclose(out, x, atol=1e-5)


@pytest.mark.parametrize("name", JITTER)
def test_a_view_hands_each_strength_to_its_operation(name):
    x = 0.3 + 0.2 * noise(3, 6, 6, 3)
    view = NOTHING._replace(jitter=1.0, **STILL | {name: 0.4})
    y = np.asarray(A.augment(KEY, x, view=view, size=6))
    assert np.abs(y - x).max() > 0.005
    kept = {  # what this operation, and no other, leaves as it is
        "brightness": lambda x: x / x[:, :1, :1],
        "contrast": lambda x: x.mean((1, 2)),
        "saturation": lambda x: [x.max(-1), np.argsort(x, -1)],
        "hue": lambda x: np.stack([x.max(-1), x.min(-1)]),
    }[name]
    if name == "saturation":
        np.testing.assert_allclose(kept(y)[0], kept(x)[0], atol=1e-5)
        assert np.abs(y.min(-1) - x.min(-1)).max() > 0.005
    else:
        np.testing.assert_allclose(kept(y), kept(x), atol=1e-5)


# Edges: probability 0 and 1


@pytest.mark.parametrize(
    "step",
    [
        lambda x: A.flip(KEY, x, probability=0),
        lambda x: A.color_jitter(KEY, x, probability=0),
        lambda x: A.color_jitter(KEY, x, probability=1, **STILL),
        lambda x: A.grayscale(KEY, x, probability=0),
        lambda x: A.gaussian_blur(KEY, x, probability=0),
        lambda x: A.solarize(KEY, x, probability=0),
        lambda x: A.center(x, size=20),
        A.to_float,
    ],
)
def test_nothing_to_do_keeps_every_bit(step):
    x = noise(3, 20, 20, 3)
    np.testing.assert_array_equal(step(x), x)
    assert str(jax.make_jaxpr(step)(x)).count("\n") <= 1  # no operation at all


def test_whole_window_at_its_own_size_is_the_image():
    x = noise(3, 15, 15, 3)
    out = A.random_resized_crop(KEY, x, size=15, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_allclose(out, x, atol=1e-6)


def test_probability_one_reaches_every_image():
    x = noise(50, 2, 3, 3)
    np.testing.assert_array_equal(A.flip(KEY, x, probability=1.0), x[:, :, ::-1])
    luma = x @ np.float32([0.2989, 0.587, 0.114])  # tf.image.rgb_to_grayscale
    grey = A.grayscale(KEY, x, probability=1.0)
    np.testing.assert_allclose(grey, luma[..., None].repeat(3, -1), atol=1e-6)
    inverted = A.solarize(KEY, x, probability=1.0, threshold=0.3)
    np.testing.assert_array_equal(inverted, np.where(x < 0.3, x, 1 - x))
    jittered = A.color_jitter(KEY, x, probability=1.0)
    assert np.all(np.abs(jittered - x).max((1, 2, 3)) > 1e-4)


@pytest.mark.parametrize(
    "step", [A.flip, A.color_jitter, A.grayscale, A.gaussian_blur, A.solarize]
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


# Crop


@pytest.mark.parametrize("height, width, size", [(40, 33, 9), (9, 12, 32)])
def test_crop_equals_pil_crop_and_bicubic_resize(height, width, size):
    x = np.round(noise(8, height, width, 2))  # black and white: bicubic overshoots
    scale, ratio = (0.1, 1.0), (0.5, 2.0)
    out = A.random_resized_crop(KEY, x, size=size, scale=scale, ratio=ratio)
    windows = np.stack(A._windows(KEY, 8, height, width, scale, ratio), 1).astype(int)
    overshoot = False
    for i, (top, left, tall, wide) in enumerate(windows):
        for c in range(2):
            window = Image.fromarray(x[i, top : top + tall, left : left + wide, c])
            expected = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC))
            overshoot |= expected.max() > 1.01
            np.testing.assert_allclose(out[i, ..., c], expected.clip(0, 1), atol=1e-5)
    assert overshoot


def test_window_area_ratio_and_place_are_uniform():
    n, side = 5000, 1000
    scale, ratio = (0.08, 0.4), (3 / 4, 4 / 3)  # every candidate fits
    top, left, tall, wide = map(
        np.asarray, A._windows(KEY, n, side, side, scale, ratio)
    )
    assert_uniform(tall * wide / side**2, *scale)
    assert_uniform(np.log(wide / tall), *np.log(ratio))
    assert_uniform(top / (side - tall), 0, 1)
    assert_uniform(left / (side - wide), 0, 1)
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.05


def test_windows_that_do_not_fit_are_drawn_again():
    n, side, scale, ratio = 5000, 1000, (0.08, 1.0), (3 / 4, 4 / 3)
    top, left, tall, wide = map(
        np.asarray, A._windows(KEY, n, side, side, scale, ratio)
    )
    assert np.all((top >= 0) & (top + tall <= side) & (left >= 0))
    assert np.all((left + wide <= side) & (tall >= 1) & (wide >= 1))
    rng = np.random.default_rng(0)
    area = rng.uniform(*scale, 4 * n)
    aspect = np.exp(rng.uniform(*np.log(ratio), 4 * n))
    accepted = (area * aspect <= 1) & (area / aspect <= 1)
    assert stats.ks_2samp(tall * wide / side**2, area[accepted]).pvalue > 1e-3
    assert stats.ks_2samp(wide / tall, aspect[accepted]).pvalue > 1e-3


def test_every_place_is_reached_in_small_images():
    top, left, tall, wide = A._windows(KEY, 500, 4, 4, (0.25, 0.25), (1.0, 1.0))
    assert np.all((tall == 2) & (wide == 2))
    assert set(zip(top.tolist(), left.tolist(), strict=True)) == set(
        itertools.product((0.0, 1.0, 2.0), repeat=2)
    )


@pytest.mark.parametrize(
    "height, width, window",
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (10, 12, (0, 0, 10, 12))],
)
def test_centred_window_where_none_fits(height, width, window):
    # torchvision's fallback: the ratio nearest to the image's, as large as possible.
    # (10, 12) with ratio up to 4/3 takes the whole image.
    ratio = (3 / 4, 4 / 3)
    scale = (1.0, 1.0)
    got = np.stack(A._windows(KEY, 40, height, width, scale, ratio), 1)
    if (height, width) == (10, 12):  # here some candidates fit: at least 119 of 120
        got = got[np.all(got == window, 1)]
        assert len(got)
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


# Colour


@pytest.mark.parametrize("name, strength", [*JITTER.items(), ("hue", 0.5)])
def test_each_operation_equals_its_reference_with_uniform_factors(name, strength):
    amounts = drawn(name, strength, 3000)
    middle = 0 if name == "hue" else 1
    assert_uniform(amounts, middle - strength, middle + strength)
    x = colours(20)
    options = STILL | {name: strength}
    out = A.color_jitter(KEY, x, probability=1.0, **options)
    factor = per_image(drawn(name, strength, 20))
    np.testing.assert_allclose(out, REFERENCES[name](x, factor), atol=5e-6)


def test_strength_above_one_stops_at_factor_zero():
    assert_uniform(drawn("brightness", 1.2, 3000), 0.0, 2.2)


def test_operations_come_in_every_order():
    batch = 300
    strengths = dict(brightness=0.8, contrast=0.8, saturation=0.9, hue=0.5)
    x = colours(batch)
    out = np.asarray(A.color_jitter(KEY, x, probability=1.0, **strengths))
    amounts = {n: per_image(drawn(n, s, batch)) for n, s in strengths.items()}
    errors = {}
    for order in itertools.permutations(strengths):
        y = np.float64(x)
        for name in order:
            y = REFERENCES[name](y, amounts[name])
        # Saturation and hue commute: 12 results of the 24 orders can be told apart.
        same = "".join("h" if n in ("saturation", "hue") else n for n in order)
        place = tuple(
            [o for o in order if o not in ("saturation", "hue")].index(n)
            if n in ("brightness", "contrast")
            else sum(o in ("brightness", "contrast") for o in order[: order.index(n)])
            for n in strengths
        )
        del same
        errors[place] = np.abs(y - out).max((1, 2, 3))
    assert len(errors) == 12
    matches = np.stack(list(errors.values())) < 1e-4  # [12, batch]
    assert matches.any(0).all()
    clear = matches[:, matches.sum(0) == 1]
    assert clear.shape[1] > 0.8 * batch
