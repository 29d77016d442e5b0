"""Colours against colorsys and NumPy, blur against SciPy; their distributions."""

import colorsys
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from augmentation import EVERYTHING, JITTER, STILL, assert_uniform, call, noise
from scipy import ndimage, stats

from simclr_jax import augment as A

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


@pytest.mark.parametrize("name, strength", [*JITTER.items(), ("hue", 0.5)])
def test_each_operation_equals_its_reference_with_uniform_factors(name, strength):
    out = jittered_alone(name, strength, 3000)
    amounts = measured(name, out)
    middle = 0 if name == "hue" else 1
    assert_uniform(amounts.ravel(), middle - strength, middle + strength)
    expected = REFERENCES[name](colours(3000)[:50], amounts[:50])
    np.testing.assert_allclose(out[:50], expected, atol=5e-6)


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
