"""Batches encoded in parts: what comes out, in which order, normalised by what."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_methods import KEY, Plain, views
from tiny import TinyEncoder

from simclr_jax.heads import Projector
from simclr_jax.microbatches import encode_views, in_groups
from simclr_jax.networks import Network

pytestmark = pytest.mark.usefixtures("compile_in_haste")

NETWORK = Network(TinyEncoder(), Projector(layers=2, hidden=6, dim=4))
PLAIN = Network(Plain(), Projector(layers=1, dim=4, norm=False))


def assert_close(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )


@pytest.fixture(scope="module")
def moved():
    """Params and statistics after a step, so that the old ones show."""
    params, batch_stats = jax.jit(NETWORK.init)(KEY, views()[0])
    return params, NETWORK.train(params, batch_stats, 2 * views(seed=3)[0])[1]


def pixel(batch_stats, images):
    return images[:, 0, 0, :1], batch_stats


def mean(*trees):
    return jax.tree.map(lambda *x: sum(x) / len(x), *trees)


@pytest.mark.parametrize("microbatch", [None, 1, 3, 12, 20])
def test_outputs_keep_the_order_of_the_batch(microbatch):
    a = jnp.arange(12.0)[:, None, None, None] * jnp.ones((12, 2, 2, 1))
    (first, second, third), _ = encode_views(
        pixel, {}, (a, -a, a + 100), microbatch=microbatch
    )
    np.testing.assert_array_equal(first[:, 0], np.arange(12))
    np.testing.assert_array_equal(second[:, 0], -np.arange(12))
    np.testing.assert_array_equal(third[:, 0], np.arange(12) + 100)


def test_a_microbatch_must_divide_the_batch():
    with pytest.raises(ValueError, match="3 does not divide the batch 8"):
        encode_views(pixel, {}, views(), microbatch=3)


def test_the_whole_is_one_batch_of_both_views(moved):
    params, batch_stats = moved
    a, b = views()
    apply = partial(NETWORK.train, params)
    ((h_a, z_a), (h_b, z_b)), stats = encode_views(apply, batch_stats, (a, b))
    (h, z), expected = apply(batch_stats, jnp.concatenate([a, b]))
    assert_close((h_a, h_b, z_a, z_b), (h[:8], h[8:], z[:8], z[8:]))
    assert_close(stats, expected)


def test_a_microbatch_is_normalised_by_itself(moved):
    """Images i, i + 4, ... of both views; the statistics are the mean of their updates
    from the same start."""
    params, batch_stats = moved
    a, b = views()
    apply = partial(NETWORK.train, params)
    found = jax.jit(partial(encode_views, apply, microbatch=2))(batch_stats, (a, b))
    ((h_a, _), (h_b, _)), stats = found
    updates = []
    for i in range(4):
        both = jnp.concatenate([a[i::4], b[i::4]])
        (h, _), new = apply(batch_stats, both)
        updates.append(new)
        assert_close((h_a[i::4], h_b[i::4]), (h[:2], h[2:]))
    assert_close(stats, mean(*updates))


@pytest.mark.parametrize("microbatch", [2, 4])
def test_without_batchnorm_the_parts_are_the_whole(microbatch):
    """Values and gradients."""
    params, batch_stats = PLAIN.init(KEY, views()[0])

    def value(params, microbatch):
        apply = partial(PLAIN.train, params)
        ((_, z_a), (_, z_b)), _ = encode_views(
            apply, batch_stats, views(), microbatch=microbatch
        )
        return jnp.sum(jnp.tanh(z_a @ z_b.T) ** 2)  # every pair of the batch meets

    gradient = jax.jit(jax.value_and_grad(value), static_argnums=1)
    assert_close(gradient(params, microbatch), gradient(params, None))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_are_separate_calls(moved, groups):
    params, batch_stats = moved
    images, _ = views()
    apply = partial(NETWORK.train, params)
    (h, z), stats = jax.jit(in_groups(apply, groups))(batch_stats, images)
    calls = [apply(batch_stats, x) for x in jnp.split(images, groups)]
    assert_close(h, jnp.concatenate([h for (h, _), _ in calls]))
    assert_close(z, jnp.concatenate([z for (_, z), _ in calls]))
    assert_close(stats, mean(*[stats for _, stats in calls]))
    if groups > 1:  # by all images together it would be another output
        (whole, _), _ = apply(batch_stats, images)
        assert not np.allclose(h, whole, atol=1e-3)


def test_groups_within_microbatches(moved):
    """BYOL's: each view of each micro-batch by itself."""
    params, batch_stats = moved
    a, b = views()
    apply = partial(NETWORK.train, params)
    ((h_a, _), (h_b, _)), stats = encode_views(
        in_groups(apply, 2), batch_stats, (a, b), microbatch=4
    )
    updates = []
    for h, view in ((h_a, a), (h_b, b)):
        for i in range(2):
            (expected, _), new = apply(batch_stats, view[i::2])
            updates.append(new)
            assert_close(h[i::2], expected)
    assert_close(stats, mean(*updates))
