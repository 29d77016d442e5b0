"""Features of a data set: order, padding, levels; standardised as NumPy says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simclr_jax.evaluation import extract, standardize


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def batches(images, size):
    for start in range(0, len(images), size):
        padding = max(0, start + size - len(images))
        mask = np.arange(size) < size - padding
        image = np.pad(images[start : start + size], ((0, padding), (0, 0)))
        yield {"image": image, "mask": mask}


@jax.jit
def embed(batch):
    return {"h": batch["image"] * 2, "z": (batch["image"] + 1).astype(jnp.bfloat16)}


@pytest.mark.parametrize("count", [1, 8, 19])
def test_extract_keeps_the_order_and_drops_the_padding(rng, count):
    images = rng.integers(100, size=(count, 3)).astype(np.float32)
    features = extract(embed, batches(images, 8))
    assert set(features) == {"h", "z"}
    assert {x.dtype for x in features.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(features["h"], images * 2)
    np.testing.assert_array_equal(features["z"], images + 1)


def test_extract_some_levels(rng):
    images = rng.normal(size=(5, 3)).astype(np.float32)
    features = extract(embed, batches(images, 2), ("h",))
    assert set(features) == {"h"}
    np.testing.assert_array_equal(features["h"], images * 2)


def test_extract_rows_masked_in_the_middle():
    batch = {
        "image": np.eye(3, dtype=np.float32),
        "mask": np.array([True, False, True]),
    }
    features = extract(embed, [batch])
    np.testing.assert_array_equal(features["h"], 2 * np.eye(3)[[0, 2]])


def test_extract_refuses_nothing():
    with pytest.raises(ValueError, match="no batches"):
        extract(embed, [])


def test_standardize(rng):
    train = (rng.normal(size=(200, 3)) * [1, 100, 0] + [0, 1e4, 7]).astype(np.float32)
    test = rng.normal(size=(5, 3)).astype(np.float32)
    a, b = standardize(train, test)
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_allclose(a.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(a.std(0), [1, 1, 0], atol=1e-5)
    again = (test - train.astype(float).mean(0)) / (train.astype(float).std(0) + 1e-6)
    np.testing.assert_allclose(b, again, rtol=1e-6)
