"""Batches encoded in parts: what comes out, in which order, normalised by what."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_methods import KEY, Plain, views
from tiny import TinyEncoder

from simclr_jax.heads import Projector
from simclr_jax.microbatches import encode_each, encode_views, in_groups
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


@pytest.mark.parametrize("encode", [encode_views, encode_each])
@pytest.mark.parametrize("microbatch", [None, 1, 3, 12, 20])
def test_outputs_keep_the_order_of_the_batch(microbatch, encode):
    a = jnp.arange(12.0)[:, None, None, None] * jnp.ones((12, 2, 2, 1))
    (first, second, third), _ = encode(
        pixel, {}, (a, -a, a + 100), microbatch=microbatch
    )
    np.testing.assert_array_equal(first[:, 0], np.arange(12))
    np.testing.assert_array_equal(second[:, 0], -np.arange(12))
    np.testing.assert_array_equal(third[:, 0], np.arange(12) + 100)


@pytest.mark.parametrize("encode", [encode_views, encode_each])
def test_a_microbatch_must_divide_the_batch(encode):
    with pytest.raises(ValueError, match="3 does not divide the batch 8"):
        encode(pixel, {}, views(), microbatch=3)


def test_views_are_not_turns_of_a_loop():
    """There XLA's CPU backend takes many times as long for the kernels' gradients."""
    found = jax.make_jaxpr(lambda a, b: encode_each(pixel, {}, (a, b)))(*views())
    names = {equation.primitive.name for equation in found.jaxpr.eqns}
    assert not names & {"scan", "while"}


def joined(apply, batch_stats, pair, parts):
    """z of both views, one forward pass for each part of the images, the views of a
    part one after the other in one BatchNorm; and the mean of the statistics."""
    size = len(pair[0])
    z, updates = [jnp.zeros((size, 4), pair[0].dtype) for _ in pair], []
    for part in parts:
        both = jnp.concatenate([view[part] for view in pair])
        (_, found), new = apply(batch_stats, both)
        updates.append(new)
        z = [
            old.at[part].set(rows)
            for old, rows in zip(z, jnp.split(found, len(pair)), strict=True)
        ]
    return z, mean(*updates)


def apart(apply, batch_stats, pair, parts):
    """As `joined`, but each view of a part has a forward pass of its own."""
    found = [joined(apply, batch_stats, (view,), parts) for view in pair]
    return [z for (z,), _ in found], mean(*[stats for _, stats in found])


@pytest.mark.parametrize(
    "encode, by_hand", [(encode_views, joined), (encode_each, apart)]
)
@pytest.mark.parametrize("microbatch", [None, 2, 4])
def test_it_is_a_forward_pass_for_each_part(moved, microbatch, encode, by_hand):
    """Images i, i + n, ... make a part; the statistics are the mean of their updates.

    In float64, because the rows of a part may have any order: that changes nothing but
    rounding, and 1e-10 is far above it.
    """
    count = 1 if microbatch is None else 8 // microbatch
    parts = [np.arange(i, 8, count) for i in range(count)]

    def value(params, batch_stats, pair, separately):
        apply = partial(NETWORK.train, params)
        if separately:
            z, stats = by_hand(apply, batch_stats, pair, parts)
        else:
            found, stats = encode(apply, batch_stats, pair, microbatch=microbatch)
            z = [z for _, z in found]
        # Every pair of the batch meets, and the views are not interchangeable.
        return jnp.sum(jnp.tanh(z[0] @ z[1].T) * jnp.arange(8.0)[:, None]), (z, stats)

    with jax.enable_x64(True):
        given = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (*moved, views()))
        gradient = jax.value_and_grad(value, has_aux=True)
        found, expected = (
            jax.jit(gradient, static_argnums=3)(*given, separately)
            for separately in (False, True)
        )
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10),
            found,
            expected,
        )
        leaves = jax.tree.leaves(found)
        assert all(leaf.dtype == jnp.float64 for leaf in leaves)


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


def test_groups_of_each_view_within_microbatches(moved):
    """Symmetric MoCo's: of images 0, 2, 4, 6, the first two make a group."""
    params, batch_stats = moved
    a, b = views()
    apply = partial(NETWORK.train, params)
    ((h_a, _), (h_b, _)), stats = encode_each(
        in_groups(apply, 2), batch_stats, (a, b), microbatch=4
    )
    updates = []
    for h, view in ((h_a, a), (h_b, b)):
        for group in ([0, 2], [4, 6], [1, 3], [5, 7]):
            (expected, _), new = apply(batch_stats, view[np.array(group)])
            updates.append(new)
            assert_close(h[np.array(group)], expected)
    assert_close(stats, mean(*updates))


def test_groups_of_views_side_by_side_are_rejected():
    """They used to separate the views; now each would hold both views of an image."""
    with pytest.raises(ValueError, match="use encode_each"):
        encode_views(in_groups(pixel, 2), {}, views())
    encode_views(in_groups(pixel, 1), {}, views())
    encode_views(in_groups(pixel, 2), {}, views()[:1])
