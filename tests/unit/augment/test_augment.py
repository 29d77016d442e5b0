"""Augmentation against PIL, SciPy and colorsys, and against its distributions."""

import colorsys
import functools
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
from simclr_jax.augment import pixels

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


def call(step, x, **options):
    """`step` under KEY, jitted: compiles faster than eager execution."""
    return jax.jit(functools.partial(step, **options))(KEY, x)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


# Pixels of `colours` on which each operation's draw can be measured.
PROBES = [(0.4, 0.4, 0.4), (0.6, 0.6, 0.6), (0.5, 0.3, 0.3), (0.9, 0.1, 0.1)]


def colours(batch):
    """Random colours, the corners of HSV (greys and pure colours) and the probes."""
    images = noise(batch, 4, 4, 3)
    corners = [*itertools.product((0.0, 1.0), repeat=3), (0.5, 0.5, 0.5)]
    images.reshape(batch, -1, 3)[:, : len(corners)] = corners
    images[:, 3] = PROBES
    return images


def measured(name, out):
    """[B, 1, 1, 1]: what operation `name`, alone, drew to make this of `colours`."""
    low, high, muted, red = np.moveaxis(np.float64(out)[:, 3:], 2, 0)[..., None, :]
    if name == "brightness":
        return low[..., :1] / 0.4
    if name == "contrast":
        return (high - low)[..., :1] / 0.2
    if name == "saturation":
        return (1 - muted[..., 1:2] / muted[..., :1]) / 0.4
    turned = np.vectorize(colorsys.rgb_to_hsv)(*np.split(red, 3, -1))[0]
    return (turned + 0.5) % 1 - 0.5


def jittered_alone(name, strength, batch):
    options = STILL | {name: strength}
    return call(A.color_jitter, colours(batch), probability=1.0, **options)


def assert_uniform(values, low, high):
    """Kolmogorov-Smirnov: off by 3% of the range or more fails with 3,000 values."""
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def windows(*arguments):
    """[4, B]: top, left, height, width of random_resized_crop's windows under KEY."""
    draw = jax.jit(pixels.windows, static_argnums=range(1, 6))
    return np.stack(draw(KEY, *arguments))


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


# Whole views


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
    view = A.View()
    assert view[:2] == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert view[2:9] == (0.5, 0.8, 0.4, 0.4, 0.4, 0.1, 0.2)
    assert view[9:13] == (0.0, (0.1, 2.0), 0.0, 0.5)
    assert view[13:16] == (0.0, 0.0, 0.0)  # neither affine maps nor erasing
    hash(view)


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


def test_a_view_hands_scale_and_ratio_to_the_crop():
    # A quarter of the area at a quarter of the ratio: windows 8 high and 2 wide.
    rows = np.broadcast_to(noise(8, 1, 1), (5, 8, 8, 1))
    view = NOTHING._replace(crop_scale=(0.25, 0.25), crop_ratio=(0.25, 0.25))
    np.testing.assert_allclose(
        call(A.augment, rows, view=view, size=8), rows, atol=1e-6
    )


def test_jitted_sharded_and_eager_results_are_the_same():
    images = jnp.asarray(noise(4, 20, 20, 3))
    step = functools.partial(A.augment, view=A.View(), size=20)
    jitted = jax.jit(step)(KEY, images)
    np.testing.assert_allclose(jitted, step(KEY, images), atol=2e-5)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(jax.jit(step)(KEY, sharded), jitted, atol=2e-5)


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
    assert call(A.augment, images, view=EVERYTHING, size=8).shape == (3, 8, 8, 1)
    still = call(
        A.color_jitter, images, probability=1.0, **STILL | dict(saturation=0.4, hue=0.1)
    )
    np.testing.assert_array_equal(still, images)
    np.testing.assert_array_equal(call(A.grayscale, images, probability=1.0), images)
    jittered = call(A.color_jitter, images, probability=1.0, **JITTER)
    options = JITTER | dict(saturation=0.0, hue=0.0)
    three = call(A.color_jitter, images.repeat(3, -1), probability=1.0, **options)
    np.testing.assert_allclose(jittered, three[..., :1], atol=1e-6)


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
        lambda x: A.random_affine(KEY, x),
        lambda x: A.erase(KEY, x, probability=0),
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
    out = call(A.random_resized_crop, x, size=15, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_allclose(out, x, atol=1e-6)


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


# Crop


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


# Affine maps and erasing


@pytest.mark.parametrize("height, width", [(21, 21), (16, 25)])
def test_affine_equals_scipy_with_pil_rotation_and_shear(height, width):
    """A turn is PIL's `rotate`: counterclockwise about the centre; bilinear."""
    x = noise(6, height, width, 2)
    out = call(A.random_affine, x, rotation=40.0, shear=30.0)
    draws = np.float64(pixels.uniform(KEY, 2, 6))
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
    turned = pixels.affine(jnp.asarray(x), jnp.array([math.pi / 2]), jnp.zeros(1))
    np.testing.assert_allclose(turned[0], np.rot90(x[0]), atol=1e-5)
    pil = Image.fromarray(x[0, ..., 0]).rotate(90)
    np.testing.assert_allclose(turned[0, ..., 0], np.asarray(pil), atol=1e-5)


def test_a_column_leans_to_the_right_upwards():
    x = np.zeros((1, 9, 9, 1), np.float32)
    x[0, :, 4] = 1
    leant = pixels.affine(jnp.asarray(x), jnp.zeros(1), jnp.ones(1))
    np.testing.assert_allclose(leant[0, ..., 0], np.eye(9)[::-1], atol=1e-6)


def test_turn_and_lean_are_uniform_to_either_side(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        pixels, "affine", lambda x, turn, lean: seen.update(turn=turn, lean=lean) or x
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
    # Sides are rounded to whole pixels.
    assert ((wide + 0.5) / (tall - 0.5) >= 0.5).all()
    assert ((wide - 0.5) / (tall + 0.5) <= 2.0).all()
    middles = gone.mean(0)
    assert middles[20, 20] > middles[0, 0] > 0  # anywhere, the corners included
    assert (np.asarray(out)[~gone[..., None]] == 1).all()


def test_a_view_hands_its_affine_map_and_erasing_on():
    x = 0.3 + 0.2 * noise(5, 12, 12, 1)
    for change in ({"rotation": 20.0}, {"shear": 20.0}, {"erase": 1.0}):
        y = np.asarray(call(A.augment, x, view=NOTHING._replace(**change), size=12))
        assert np.abs(y - x).max() > 0.05, change
    wide = call(
        A.augment, x, view=NOTHING._replace(erase=1.0, erase_scale=(1, 1)), size=12
    )
    assert np.mean(np.asarray(wide) == 0) > 0.4


# Colour


@pytest.mark.parametrize("name, strength", [*JITTER.items(), ("hue", 0.5)])
def test_each_operation_equals_its_reference_with_uniform_factors(name, strength):
    out = jittered_alone(name, strength, 3000)
    amounts = measured(name, out)
    middle = 0 if name == "hue" else 1
    assert_uniform(amounts.ravel(), middle - strength, middle + strength)
    some, x = slice(50), colours(3000)
    expected = REFERENCES[name](x[some], amounts[some])
    np.testing.assert_allclose(out[some], expected, atol=5e-6)


def test_strength_above_one_stops_at_factor_zero():
    out = jittered_alone("brightness", 1.2, 3000)
    assert_uniform(measured("brightness", out).ravel(), 0.0, 2.2)


def test_operations_come_in_every_order():
    batch = 500
    strengths = dict(brightness=0.8, contrast=0.8, saturation=0.9, hue=0.5)
    x = colours(batch)
    out = np.asarray(call(A.color_jitter, x, probability=1.0, **strengths))
    amounts = {
        name: measured(name, jittered_alone(name, strength, batch))
        for name, strength in strengths.items()
    }
    matches, expected = [], []
    for order in itertools.permutations(strengths):
        # These two commute: next to each other, one of their orders stands for both.
        if "hue saturation" in " ".join(order):
            continue
        expected.append(2 / 24 if "saturation hue" in " ".join(order) else 1 / 24)
        y = np.float64(x)
        for name in order:
            y = REFERENCES[name](y, amounts[name])
        matches.append(np.abs(y - out).max((1, 2, 3)) < 1e-4)
    matches = np.stack(matches)  # [18 orders, batch]
    assert matches.any(0).all()
    # Brightness that clips nothing commutes with the rest: look at brighter images.
    matches = matches[:, amounts["brightness"].ravel() > 1.2]
    clear = matches[:, matches.sum(0) == 1]
    total = clear.shape[1]
    assert total > 0.8 * matches.shape[1]
    assert stats.chisquare(clear.sum(1), total * np.array(expected)).pvalue > 1e-3


def test_colours_stay_in_range():
    strong = dict(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    out = call(A.color_jitter, colours(200), probability=1.0, **strong)
    assert jnp.all((out >= 0) & (out <= 1))  # and no NaN


# Blur


def blurred_by_scipy(x, sigma, radius):
    """Gaussian over the pixels that exist: zero padding over blurred ones."""
    y, weight = np.float64(x), np.ones(x.shape)
    for axis in (1, 2):
        options = dict(sigma=sigma, axis=axis, mode="constant", radius=radius)
        y = ndimage.gaussian_filter1d(y, **options)
        weight = ndimage.gaussian_filter1d(weight, **options)
    return y / weight


@pytest.mark.parametrize("height, width, radius", [(20, 31, 1), (41, 24, 2)])
def test_blur_equals_scipy(height, width, radius):
    x = noise(2, height, width, 3)
    out = call(A.gaussian_blur, x, probability=1.0, sigma=(1.3, 1.3))
    np.testing.assert_allclose(out, blurred_by_scipy(x, 1.3, radius), atol=2e-6)


def test_blur_kernel_is_a_tenth_of_the_height():
    # SimCLR's code: 2 * int(H // 10 / 2) + 1.
    for height, kernel in ((224, 23), (32, 3), (19, 1)):
        impulse = np.zeros((1, height, 1, 1), np.float32)
        impulse[0, height // 2] = 1
        out = call(A.gaussian_blur, impulse, probability=1.0, sigma=(9.0, 9.0))
        assert np.count_nonzero(out) == kernel


def test_sigma_is_uniform():
    n = 3000
    impulse = np.zeros((n, 20, 1, 1), np.float32)
    impulse[:, 10] = 1
    out = np.asarray(call(A.gaussian_blur, impulse, probability=1.0, sigma=(0.5, 2.0)))
    ratio = out[:, 11, 0, 0] / out[:, 10, 0, 0]  # exp(-1 / (2 sigma^2))
    assert_uniform(np.sqrt(-0.5 / np.log(np.float64(ratio))), 0.5, 2.0)


# Input


def test_to_float_reads_uint8_as_255ths():
    x = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(A.to_float(x), x / 255, rtol=2e-7)
    assert A.to_float(x)[255] == 1
    half = A.to_float(jnp.full((2,), 0.5, jnp.bfloat16))
    assert half.dtype == jnp.float32


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
        (lambda: A.random_affine(KEY, IMAGES, rotation=-3.0), "rotation=-3.0"),
        (lambda: A.random_affine(KEY, IMAGES, shear=90.0), "shear=90.0"),
        (lambda: A.erase(KEY, IMAGES, probability=2), "got 2"),
        (lambda: A.erase(KEY, IMAGES, scale=(0.0, 0.5)), r"\(0.0, 0.5\)"),
    ],
)
def test_wrong_requests_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)
