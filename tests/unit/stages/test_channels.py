"""Whole runs on arrays of other channel counts than grey and RGB."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_recipe
from tiny import squares

import simclr_jax
from simclr_jax import augment
from simclr_jax.experiment.workdir import results
from simclr_jax.report import gallery
from simclr_jax.stages import run as stages

pytestmark = pytest.mark.usefixtures("compile_in_haste")


def of_channels(count, channels, seed):
    """The squares' three channels, then as many of noise as are missing."""
    images, labels = squares(count, seed)
    noise = np.random.default_rng(seed).integers(0, 60, (count, 16, 16, 13))
    every = np.concatenate([images, noise.astype(np.uint8)], axis=-1)
    return every[..., :channels], labels


@pytest.mark.parametrize("channels", [5, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_whole_run(tmp_path, capsys, channels):
    train, labels = of_channels(32, channels, 0)
    test, test_labels = of_channels(24, channels, 1)
    np.savez(
        tmp_path / "set.npz",
        train_images=train,
        train_labels=labels,
        test_images=test,
        test_labels=test_labels,
    )
    config = tiny_recipe.get_config()
    config.data.path = str(tmp_path / "set.npz")
    config.stages = ("pretrain", "knn", "probe", "report", "export")
    config.epochs = config.probe.epochs = 1
    config.probe.every_epochs = 0
    workdir = tmp_path / "run"
    stages.run(config, str(workdir))
    said = capsys.readouterr().err
    assert f"images of {channels} channels: saturation, hue, grayscale off" in said
    assert set(results(workdir)) >= {"pretrain", "knn", "probe"}
    assert results(workdir)["config"]["augment"]["hue"] == 0
    page = (workdir / "report.html").read_text()
    assert page.count('<img src="data:image/') > 10
    encoder = simclr_jax.load(workdir / "encoder.safetensors")
    assert encoder.config["channels"] == channels
    kernel = encoder.variables["params"]["encoder"]["stem_conv"]["kernel"]
    assert kernel.shape[2] == channels
    assert encoder.embed(test).shape == (24, 32)
    # Each channel of a larger image is resized by itself.
    flat = np.broadcast_to(np.arange(channels, dtype=np.uint8) * 9, (20, 18, channels))
    large, small = encoder.embed([flat]), encoder.embed([flat[:16, :16]])
    np.testing.assert_allclose(large, small, atol=1e-6)
    with pytest.raises(ValueError, match=f"the encoder takes {channels}"):
        encoder.embed(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("channels, seen", [(1, 1), (2, 1), (3, 3), (4, 3), (13, 3)])
def test_a_picture_shows_three_channels_or_one(channels, seen):
    images = np.arange(2 * 4 * 4 * channels, dtype=np.uint8).reshape(2, 4, 4, channels)
    shown = gallery.visible(images)
    assert shown.shape[-1] == seen
    np.testing.assert_array_equal(shown, images[..., :seen])


def test_brightness_and_contrast_need_no_rgb():
    """Brightness multiplies all channels of an image by one factor; hue needs RGB."""
    images = jnp.broadcast_to(jnp.arange(1, 6) / 10, (8, 4, 4, 5))
    options = {"saturation": 0, "hue": 0, "probability": 1.0}
    bright = augment.color_jitter(
        jax.random.key(0), images, brightness=0.5, contrast=0, **options
    )
    factors = np.asarray(bright / images)
    np.testing.assert_allclose(factors, factors[:, :1, :1, :1] + 0 * factors, rtol=1e-5)
    assert factors.std() > 0.05
    with pytest.raises(ValueError, match="1 or 3 channels, got 5"):
        augment.color_jitter(jax.random.key(0), images, hue=0.1)
