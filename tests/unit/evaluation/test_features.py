"""Features of a data set: order, padding, levels; standardised as NumPy says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import assert_lowers_for_cuda

from simclr_jax.evaluation import extract, features, standardize


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


@pytest.mark.parametrize("count", [1, 8, 19])
@pytest.mark.parametrize("limit, kind", [(10**6, jax.Array), (200, np.ndarray)])
def test_extract_on_the_device_up_to_a_limit(rng, count, limit, kind):
    """19 rows of h and z take 456 bytes, so that 200 are too few on the way."""
    images = rng.integers(100, size=(count, 3)).astype(np.float32)
    features = extract(embed, batches(images, 8), device_bytes=limit)
    expected = kind if count * 24 > 200 or kind is jax.Array else jax.Array
    assert all(isinstance(x, expected) for x in features.values())
    assert {x.dtype for x in features.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(features["h"], images * 2)
    np.testing.assert_array_equal(features["z"], images + 1)


@pytest.mark.parametrize("donate", [False, True])
def test_standardize_on_the_device_is_numpys(rng, donate):
    """To the last bit but one; the sums of 30,000 rows need more than float32."""
    scales = np.array([1, 100, 0, 1e-3], np.float32)
    train = rng.normal(size=(30_000, 4)).astype(np.float32) * scales
    train += np.array([0, 1e4, 7, 1], np.float32)
    test = rng.normal(size=(5, 4)).astype(np.float32)
    mean = train.mean(0, dtype=np.float64)
    sd = train.std(0, dtype=np.float64) + 1e-6
    given = jnp.array(train), jnp.array(test)
    a, b = standardize(*given, donate=donate)
    assert isinstance(a, jax.Array)
    assert a.dtype == b.dtype == jnp.float32
    assert given[0].is_deleted() == donate
    # The mean is rounded to float32: half a unit in its last place, in units of sd.
    atol = np.max(np.spacing(mean.astype(np.float32)) / sd)
    np.testing.assert_allclose(a, (train - mean) / sd, rtol=1e-6, atol=atol)
    np.testing.assert_allclose(b, (test - mean) / sd, rtol=1e-6, atol=atol)
    for ours, numpys in zip((a, b), standardize(train, test), strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=3e-7, atol=1e-7)


def test_standardising_stays_on_a_gpu():
    function = jax.jit(features._standardize, donate_argnums=(0, 1))
    with jax.enable_x64(True):
        arrays = (jax.ShapeDtypeStruct((n, 4), jnp.float32) for n in (9, 5))
        assert_lowers_for_cuda(function, *arrays)
