"""Losses against the papers' formulas, written out as loops over Python floats."""

import functools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from simclr_jax.losses import (
    barlow_twins,
    byol_regression,
    contrastive_accuracy,
    distillation,
    info_nce,
    l2_normalize,
    nt_xent,
    vicreg,
)

# Jitted once for all tests: each temperature and pair of the same shape comes cheap.
jit_nt_xent = jax.jit(nt_xent, static_argnames="block_size")
jit_info_nce = jax.jit(info_nce)
jit_accuracy = jax.jit(contrastive_accuracy)


@functools.partial(jax.jit, static_argnames="block_size")
def weighted_gradients(z_a, z_b, temperature, block_size=None):
    """Gradients by z_a, z_b and the temperature, and the loss per anchor.

    The weights are uneven: a gradient that mixed anchors up would show.
    """

    def f(z_a, z_b, temperature):
        loss = nt_xent(z_a, z_b, temperature=temperature, block_size=block_size)
        return (loss * jnp.arange(1.0, len(loss) + 1)).mean(), loss

    return jax.grad(f, (0, 1, 2), has_aux=True)(z_a, z_b, jnp.float32(temperature))


def normal(seed, *shape):
    draws = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(draws, jnp.float32)


def pair(n=6, d=5):
    return normal(0, n, d), normal(1, n, d)


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


def nt_xent_by_loops(z_a, z_b, temperature):
    """arXiv:2002.05709 equation 1, term by term: [2N]."""
    z = np.concatenate([unit(z_a), unit(z_b)])
    n = len(z_a)
    values = []
    for i in range(2 * n):
        j = i + n if i < n else i - n
        denominator = 0.0
        for k in range(2 * n):
            if k != i:
                denominator += math.exp(z[i] @ z[k] / temperature)
        values.append(-math.log(math.exp(z[i] @ z[j] / temperature) / denominator))
    return np.array(values)


def mean_loss(z_a, z_b, **options):
    return nt_xent(z_a, z_b, **options).mean()


# NT-Xent: values


@pytest.mark.parametrize("block_size", [None, 5, 64])  # of 2N = 12
@pytest.mark.parametrize("temperature", [0.07, 0.5, 10.0])
def test_nt_xent_is_equation_1(temperature, block_size):
    z_a, z_b = pair()
    loss = jit_nt_xent(z_a, z_b, temperature=temperature, block_size=block_size)
    assert loss.shape == (12,)
    expected = nt_xent_by_loops(z_a, z_b, temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)


def test_nt_xent_is_stable_at_a_temperature_of_a_hundredth():
    z_a, z_b = pair()
    loss = jit_nt_xent(z_a, z_b, temperature=0.01)
    # exp(100) still fits a float64, so the loops need no shift.
    expected = nt_xent_by_loops(z_a, z_b, 0.01)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize("n", [1, 6])
def test_nt_xent_of_equal_embeddings(n, block_size):
    z = jnp.ones((n, 3))
    loss = jit_nt_xent(z, z, temperature=0.1, block_size=block_size)
    np.testing.assert_allclose(loss, math.log(2 * n - 1), atol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_of_orthonormal_pairs(temperature):
    n, t = 6, temperature
    loss = jit_nt_xent(jnp.eye(n), jnp.eye(n), temperature=t)
    expected = math.log(math.exp(1 / t) + 2 * n - 2) - 1 / t
    np.testing.assert_allclose(loss, expected, atol=2e-6)


def test_nt_xent_agrees_with_optax():
    z_a, z_b = pair()
    labels = jnp.tile(jnp.arange(6), 2)
    with jax.numpy_rank_promotion("allow"):
        oracle = jax.jit(optax.losses.ntxent)
        expected = oracle(jnp.concatenate([z_a, z_b]), labels, 0.3)
    actual = jit_nt_xent(z_a, z_b, temperature=0.3).mean()
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_nt_xent_symmetries():
    z_a, z_b = pair()
    loss = jit_nt_xent(z_a, z_b)
    np.testing.assert_allclose(jit_nt_xent(z_b, z_a), jnp.roll(loss, 6), rtol=1e-5)
    np.testing.assert_allclose(jit_nt_xent(1e3 * z_a, 1e-3 * z_b), loss, rtol=1e-4)
    order = np.array([3, 0, 5, 1, 4, 2])
    both = np.concatenate([order, order + 6])
    np.testing.assert_allclose(
        jit_nt_xent(z_a[order], z_b[order]), loss[both], rtol=1e-5
    )


def test_wrong_nt_xents_differ():
    """What these tests would not forgive: self-similarity kept, a block dropped."""
    z_a, z_b = pair()
    loss = jit_nt_xent(z_a, z_b)
    z = np.concatenate([unit(z_a), unit(z_b)])
    e = np.exp(z @ z.T / 0.5)
    positive = np.diag(np.roll(e, 6, axis=1))
    with_self = np.log(e.sum(1) / positive)
    no_intra_view = np.log(
        np.concatenate([e[:6, 6:].sum(1), e[6:, :6].sum(1)]) / positive
    )
    right = np.log((e.sum(1) - np.diag(e)) / positive)
    np.testing.assert_allclose(loss, right, rtol=1e-5)
    assert np.abs(loss - with_self).min() > 0.05
    assert np.abs(loss - no_intra_view).min() > 0.05
    assert abs(loss.mean() - 2 * right.mean()) > 0.05  # Google's code: 2 L


# NT-Xent: further negatives


def nt_xent_with_negatives(z_a, z_b, negatives, temperature):
    """Equation 1 with more terms in each denominator: [2N]."""
    z = np.concatenate([unit(z_a), unit(z_b)])
    within = np.exp(z @ z.T / temperature)
    np.fill_diagonal(within, 0)
    beyond = np.exp(z @ unit(negatives).T / temperature)
    positive = np.exp(np.tile((unit(z_a) * unit(z_b)).sum(1), 2) / temperature)
    return -np.log(positive / (within.sum(1) + beyond.sum(1)))


@pytest.mark.parametrize("block_size", [None, 5])
def test_negatives_join_every_denominator(block_size):
    """Seven rows of any length, none of them taken for an anchor of its own."""
    rows = 30 * normal(2, 7, 5)
    loss = jit_nt_xent(*pair(), temperature=0.3, block_size=block_size, negatives=rows)
    expected = nt_xent_with_negatives(*pair(), rows, 0.3)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.abs(expected - nt_xent_by_loops(*pair(), 0.3)).min() > 0.05


def test_equal_negatives_only_count():
    z = jnp.ones((6, 3))
    loss = jit_nt_xent(z, z, temperature=0.1, negatives=jnp.ones((4, 3)))
    np.testing.assert_allclose(loss, math.log(2 * 6 - 1 + 4), atol=1e-5)


def test_gradient_with_negatives_is_the_numerical_one():
    @jax.jit
    def f(z_a, z_b, rows):
        return mean_loss(z_a, z_b, negatives=rows, block_size=4)

    check_grads(f, (*pair(3, 4), normal(2, 3, 4)), order=1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("block_size", [None, 5])
def test_negatives_on_two_devices_count_once(block_size):
    rows = normal(2, 7, 5)
    over, everywhere = PartitionSpec("data"), PartitionSpec()
    f = jax.shard_map(
        lambda a, b, rows: nt_xent(
            a, b, axis_name="data", block_size=block_size, negatives=rows
        ),
        mesh=mesh(),
        in_specs=(over, over, everywhere),
        out_specs=over,
    )
    a, b = nt_xent_with_negatives(*pair(), rows, 0.5).reshape(2, 6)
    expected = np.concatenate([a[:3], b[:3], a[3:], b[3:]])
    np.testing.assert_allclose(jax.jit(f)(*pair(), rows), expected, rtol=1e-5)


# NT-Xent: gradients


def test_nt_xent_gradient_is_the_numerical_one():
    @jax.jit
    def f(z_a, z_b, t):
        return mean_loss(z_a, z_b, temperature=t, block_size=4)

    check_grads(f, (*pair(3, 4), jnp.float32(0.5)), order=1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("block_size", [1, 4, 5])  # of 2N = 12
def test_blocks_change_neither_value_nor_gradient(block_size):
    for temperature in (0.01, 0.5):
        expected, expected_loss = weighted_gradients(*pair(), temperature)
        actual, loss = weighted_gradients(*pair(), temperature, block_size)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-5)
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("block_size", [None, 5])
def test_zero_vectors_have_finite_loss_and_gradient(block_size):
    z_a, z_b = pair()
    zero = jnp.zeros_like(z_a)
    for a, b in ((z_a.at[2].set(0.0), z_b), (zero, z_b), (zero, zero)):
        grads, loss = weighted_gradients(a, b, 0.01, block_size)
        assert np.isfinite(loss).all()
        assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("block_size", [None, 5])
def test_nan_is_not_hidden(block_size):
    z_a, z_b = pair()
    loss = jit_nt_xent(z_a.at[0, 0].set(jnp.nan), z_b, block_size=block_size)
    assert np.isnan(loss).all()


def test_nt_xent_under_jit_and_vmap():
    z_a, z_b = normal(2, 3, 6, 5), normal(3, 3, 6, 5)

    def f(z_a, z_b, t):
        return nt_xent(z_a, z_b, temperature=t, block_size=5)

    one_by_one = jnp.stack(
        [
            jit_nt_xent(a, b, temperature=t, block_size=5)
            for a, b, t in zip(z_a, z_b, [0.1, 0.5, 1.0], strict=True)
        ]
    )
    batched = jax.jit(jax.vmap(f))(z_a, z_b, jnp.array([0.1, 0.5, 1.0]))
    np.testing.assert_allclose(batched, one_by_one, rtol=1e-5, atol=1e-5)


# NT-Xent: memory


def test_blocks_never_hold_the_whole_matrix():
    rows, dim = 8192, 32
    shape = jax.ShapeDtypeStruct((rows // 2, dim), jnp.float32)

    def temporaries(block_size):
        f = jax.grad(lambda a, b: mean_loss(a, b, block_size=block_size), (0, 1))
        return jax.jit(f).lower(shape, shape).compile().memory_analysis()

    matrix = 4 * rows * rows  # bytes
    assert temporaries(None).temp_size_in_bytes > matrix
    # The docstring's figure, and ten arrays of [2N, D] beside it.
    promised = 4 * 128 * rows + 10 * 4 * rows * dim
    assert temporaries(128).temp_size_in_bytes < promised < matrix / 10


def test_accuracy_never_holds_the_whole_matrix():
    shape = jax.ShapeDtypeStruct((4096, 32), jnp.float32)
    compiled = jax.jit(contrastive_accuracy).lower(shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 8192 * 8192 / 4


# NT-Xent: devices


def mesh():
    return jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))


def sharded_loss(block_size):
    """A linear encoder and the loss a user writes: (w, x_a, x_b) -> []."""

    def f(w, x_a, x_b):
        loss = nt_xent(x_a @ w, x_b @ w, axis_name="data", block_size=block_size)
        return lax.pmean(loss.mean(), "data")

    return f


@pytest.fixture(scope="module")
def unsharded():
    """Arguments, value and gradients of the same loss on one device."""
    arguments = normal(2, 5, 4), *pair()
    f = jax.value_and_grad(lambda w, x_a, x_b: mean_loss(x_a @ w, x_b @ w), (0, 1, 2))
    return arguments, *jax.jit(f)(*arguments)


def assert_tree_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        actual,
        expected,
    )


@pytest.mark.parametrize("block_size, check_vma", [(None, True), (5, True), (5, False)])
def test_gradient_of_a_shard_map(unsharded, block_size, check_vma):
    arguments, value, grads = unsharded
    over = PartitionSpec("data")
    f = jax.shard_map(
        sharded_loss(block_size),
        mesh=mesh(),
        in_specs=(PartitionSpec(), over, over),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    assert_tree_close(
        jax.jit(jax.value_and_grad(f, (0, 1, 2)))(*arguments), (value, grads)
    )


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("block_size", [None, 5])
def test_gradient_inside_a_shard_map(unsharded, block_size, check_vma):
    arguments, value, grads = unsharded

    def f(*arguments):
        value, grad = jax.value_and_grad(sharded_loss(block_size))(*arguments)
        # With check_vma this changes nothing; without, it is the user's task.
        return value, lax.pmean(grad, "data")

    over = PartitionSpec("data")
    f = jax.shard_map(
        f,
        mesh=mesh(),
        in_specs=(PartitionSpec(), over, over),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    assert_tree_close(jax.jit(f)(*arguments), (value, grads[0]))


def test_gradient_inside_a_shard_map_needs_no_pmean_with_check_vma(unsharded):
    arguments, value, grads = unsharded
    over = PartitionSpec("data")
    f = jax.shard_map(
        jax.value_and_grad(sharded_loss(None)),
        mesh=mesh(),
        in_specs=(PartitionSpec(), over, over),
        out_specs=PartitionSpec(),
    )
    assert_tree_close(jax.jit(f)(*arguments), (value, grads[0]))


@pytest.mark.parametrize("block_size", [None, 5])
def test_gradient_in_a_pmap(unsharded, block_size):
    (w, x_a, x_b), value, grads = unsharded

    def f(w, x_a, x_b):
        value, grad = jax.value_and_grad(sharded_loss(block_size))(w, x_a, x_b)
        return value, lax.pmean(grad, "data")

    values, per_device = jax.pmap(f, axis_name="data", in_axes=(None, 0, 0))(
        w, x_a.reshape(2, 3, 5), x_b.reshape(2, 3, 5)
    )
    for device in range(2):
        assert_tree_close((values[device], per_device[device]), (value, grads[0]))


def test_stopping_the_gathered_gradient_would_show(unsharded):
    """lightly-ai/lightly issue 1528: negatives of other devices without gradient."""
    (w, x_a, x_b), value, grads = unsharded

    def f(w, x_a, x_b):
        z_a, z_b = l2_normalize(x_a @ w), l2_normalize(x_b @ w)
        anchors = jnp.concatenate([z_a, z_b])
        others = lax.stop_gradient(lax.all_gather(anchors, "data", tiled=True))
        own = lax.axis_index("data") * 6 + jnp.arange(6)
        others = lax.dynamic_update_slice_in_dim(others, anchors, own[0], 0)
        logits = jnp.where(
            own[:, None] == jnp.arange(12)[None, :], -jnp.inf, anchors @ others.T / 0.5
        )
        positive = jnp.tile((z_a * z_b).sum(1) / 0.5, 2)
        return (jax.nn.logsumexp(logits, axis=1) - positive).mean()

    per_device = jax.vmap(jax.value_and_grad(f), in_axes=(None, 0, 0), axis_name="data")
    values, wrong = jax.jit(per_device)(w, x_a.reshape(2, 3, 5), x_b.reshape(2, 3, 5))
    np.testing.assert_allclose(values.mean(), value, rtol=1e-5)
    assert np.abs(wrong.mean(0) - grads[0]).max() > 1e-2


@pytest.mark.parametrize("block_size", [None, 5])
def test_each_device_returns_its_own_anchors(block_size):
    z_a, z_b = pair()
    over = PartitionSpec("data")
    f = jax.shard_map(
        lambda a, b: nt_xent(a, b, axis_name="data", block_size=block_size),
        mesh=mesh(),
        in_specs=over,
        out_specs=over,
    )
    a, b = nt_xent_by_loops(z_a, z_b, 0.5).reshape(2, 6)
    expected = np.concatenate([a[:3], b[:3], a[3:], b[3:]])
    np.testing.assert_allclose(jax.jit(f)(z_a, z_b), expected, rtol=1e-5)


@pytest.mark.parametrize("block_size", [None, 5])
def test_a_sharded_batch_under_plain_jit_has_global_negatives(unsharded, block_size):
    (w, x_a, x_b), value, grads = unsharded
    sharding = NamedSharding(mesh(), PartitionSpec("data"))
    f = jax.value_and_grad(
        lambda w, x_a, x_b: mean_loss(x_a @ w, x_b @ w, block_size=block_size),
        (0, 1, 2),
    )
    x_a, x_b = jax.device_put(x_a, sharding), jax.device_put(x_b, sharding)
    assert_tree_close(jax.jit(f)(w, x_a, x_b), (value, grads))


# The other objectives


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_is_equation_1(temperature):
    q, k, n = normal(0, 6, 5), normal(1, 6, 5), normal(2, 7, 5)
    loss = jit_info_nce(q, k, n, temperature=temperature)
    expected = []
    for qi, ki in zip(unit(q), unit(k), strict=True):
        match = math.exp(qi @ ki / temperature)
        rest = sum(math.exp(qi @ nj / temperature) for nj in unit(n))
        expected.append(-math.log(match / (match + rest)))
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


def test_info_nce_without_negatives_has_the_other_keys():
    q, k = normal(0, 6, 5), normal(1, 6, 5)
    expected = [
        info_nce(q[i : i + 1], k[i : i + 1], jnp.delete(k, i, axis=0))[0]
        for i in range(6)
    ]
    np.testing.assert_allclose(jit_info_nce(q, k), jnp.stack(expected), rtol=1e-5)


def test_info_nce_of_known_cases():
    ones, seven = jnp.ones((6, 5)), jnp.ones((7, 5))
    np.testing.assert_allclose(jit_info_nce(ones, ones, seven), math.log(8), rtol=1e-5)
    # Seven zero negatives have cosine 0 with everything; the default is t = 0.2.
    expected = math.log(math.exp(5) + 7) - 5
    np.testing.assert_allclose(jit_info_nce(ones, ones, 0 * seven), expected, atol=2e-6)


def test_byol_regression_is_the_squared_distance_of_unit_vectors():
    p, t = pair()
    expected = ((unit(p) - unit(t)) ** 2).sum(1)
    np.testing.assert_allclose(byol_regression(p, t), expected, rtol=1e-5)
    np.testing.assert_allclose(byol_regression(p, -p), 4.0, rtol=1e-6)
    np.testing.assert_allclose(byol_regression(p, 3 * p), 0.0, atol=1e-6)
    np.testing.assert_array_equal(byol_regression(p, 0 * p), 2.0)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_distillation_is_cross_entropy_with_the_teacher(temperature):
    student, teacher = pair()
    expected = []
    for s, t in zip(student, teacher, strict=True):
        s = [math.exp(float(x) / temperature) for x in s]
        t = [math.exp(float(x) / temperature) for x in t]
        expected.append(
            -sum(
                ti / sum(t) * math.log(si / sum(s)) for si, ti in zip(s, t, strict=True)
            )
        )
    loss = jax.jit(distillation)(student, teacher, temperature=temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


def test_distillation_gradient_reaches_the_student_only():
    student, teacher = pair()

    @jax.jit
    def f(student, teacher):
        return distillation(student, teacher, temperature=2.0).sum()

    to_student, to_teacher = jax.grad(f, (0, 1))(student, teacher)
    # d/ds of cross-entropy: (softmax(s / t) - softmax(teacher / t)) / t
    expected = (jax.nn.softmax(student / 2) - jax.nn.softmax(teacher / 2)) / 2
    np.testing.assert_allclose(to_student, expected, atol=1e-6)
    np.testing.assert_array_equal(to_teacher, 0.0)


def test_gradients_of_the_others_are_the_numerical_ones():
    a, b = pair(3, 4)
    tolerance = {"order": 1, "atol": 1e-2, "rtol": 1e-2}
    check_grads(jit_info_nce, (a, b, normal(5, 4, 4)), **tolerance)
    check_grads(jax.jit(byol_regression), (a, b), **tolerance)
    check_grads(jax.jit(lambda s: distillation(s, b)), (a,), **tolerance)


def test_the_others_are_finite_at_zero():
    @functools.partial(jax.jit, static_argnums=0)
    def gradients(loss, *arguments):
        f = jax.grad(lambda arguments: loss(*arguments).sum())
        return f(arguments)

    def cold_info_nce(query, positive, negatives):
        return info_nce(query, positive, negatives, temperature=0.01)

    zero, other = jnp.zeros((3, 4)), normal(0, 3, 4)
    for first in (zero, other):
        for grads in (
            gradients(cold_info_nce, first, zero, zero),
            gradients(byol_regression, first, zero),
        ):
            assert all(np.isfinite(x).all() for x in grads)


# Contrastive accuracy


def accuracy_by_loops(z_a, z_b):
    z = np.concatenate([unit(z_a), unit(z_b)])
    n, hits = len(z_a), 0
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        hits += max(others, key=lambda k: z[i] @ z[k]) == (i + n) % (2 * n)
    return hits / (2 * n)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("n", [2, 7, 301])  # 301: two blocks, the second padded
def test_contrastive_accuracy_counts_nearest_neighbours(n, noise):
    z_a = normal(0, n, 8)
    z_b = z_a + noise * normal(1, n, 8)
    accuracy = jit_accuracy(z_a, z_b)
    if n < 100:
        expected = accuracy_by_loops(z_a, z_b)
    else:
        z = np.concatenate([unit(z_a), unit(z_b)])
        nearest = np.argmax(z @ z.T - 9 * np.eye(2 * n), axis=1)
        expected = np.mean(nearest == (np.arange(2 * n) + n) % (2 * n))
    np.testing.assert_allclose(accuracy, expected, atol=1e-6)


def test_contrastive_accuracy_of_known_cases():
    eye = jnp.eye(4)
    assert jit_accuracy(eye, eye) == 1.0
    assert jit_accuracy(eye, eye[::-1]) == 0.0
    assert jit_accuracy(eye[:1], eye[1:2]) == 1.0  # N = 1: no rival
    # Both views of images 0 and 1 coincide: a tie of three; the other two are right.
    assert jit_accuracy(eye.at[1].set(eye[0]), eye.at[1].set(eye[0])) == 0.5
    # On the circle, in degrees. Nearest: 0 -> 20, 100 -> 30, 30 -> 20, 20 -> 30.
    angles = jnp.deg2rad(jnp.array([0.0, 100.0, 30.0, 20.0]))
    z = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    # pairs (0, 30), (100, 20)
    assert jit_accuracy(z[:2], z[2:]) == 0.0
    # pairs (0, 20), (100, 30): right seen from the first view, wrong from the second
    assert jit_accuracy(z[:2], z[jnp.array([3, 2])]) == 0.5


@pytest.mark.parametrize("n", [2, 301])
def test_collapsed_embeddings_score_nothing(n):
    point = normal(0, 1, 17)
    z_a = point * jnp.linspace(0.1, 3.0, n)[:, None]
    assert jit_accuracy(z_a, 2 * z_a) == 0.0
    assert jit_accuracy(0 * z_a, 0 * z_a) == 0.0


def test_contrastive_accuracy_in_a_differentiated_loss():
    def f(z_a, z_b):
        return mean_loss(z_a, z_b), contrastive_accuracy(z_a, z_b)

    grad, accuracy = jax.jit(jax.grad(f, has_aux=True))(*pair(300, 4))
    alone = jax.jit(jax.grad(mean_loss))(*pair(300, 4))
    np.testing.assert_allclose(grad, alone, atol=1e-6)
    assert accuracy.shape == ()
    assert accuracy.dtype == jnp.float32


# What they share

ALL = {
    "nt_xent": nt_xent,
    "nt_xent in blocks": lambda a, b: nt_xent(a, b, block_size=5),
    "nt_xent with negatives": lambda a, b: nt_xent(a, b, negatives=b),
    "nt_xent decoupled": lambda a, b: nt_xent(a, b, decoupled="weighted"),
    "info_nce": lambda a, b: info_nce(a, b, b),
    "byol_regression": byol_regression,
    "distillation": distillation,
    "contrastive_accuracy": contrastive_accuracy,
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
}


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_in_float32_out(name):
    a, b = (x.astype(jnp.bfloat16) for x in pair())
    f = jax.jit(ALL[name])
    value = f(a, b)
    assert value.dtype == jnp.float32
    # No rounding but the input's own.
    exact = f(a.astype(jnp.float32), b.astype(jnp.float32))
    np.testing.assert_allclose(value, exact, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", ALL)
def test_jit_is_eager_and_types_are_strict(name):
    with jax.numpy_dtype_promotion("strict"):
        eager = ALL[name](*pair())
        jitted = jax.jit(ALL[name])(*pair())
        np.testing.assert_allclose(jitted, eager, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "shapes", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((0, 4), (0, 4))]
)
def test_wrong_shapes_are_named_at_trace_time(name, shapes):
    a, b = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        jax.eval_shape(ALL[name], a, b)
    assert all(str(shape) in str(error.value) for shape in shapes)


def test_wrong_negatives_are_named():
    z = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"\(7, 5\).*\(3, 4\)"):
        info_nce(z, z, jnp.ones((7, 5)))
    with pytest.raises(ValueError, match=r"\(4,\).*z_a \(3, 4\)"):
        nt_xent(z, z, negatives=jnp.ones(4))


@pytest.mark.parametrize("temperature", [0, 0.0, -0.5, float("nan"), np.float32(0)])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    z = jnp.ones((3, 4))
    with pytest.raises(ValueError, match="temperature must be positive"):
        nt_xent(z, z, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        info_nce(z, z, z, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        jax.jit(lambda z: distillation(z, z, temperature=temperature))(z)


def test_a_temperature_per_anchor_is_refused():
    with pytest.raises(ValueError, match="scalar"):
        nt_xent(jnp.ones((3, 4)), jnp.ones((3, 4)), temperature=jnp.ones(6))


@pytest.mark.parametrize("block_size", [0, -1])
def test_a_block_size_below_one_is_refused(block_size):
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        nt_xent(jnp.ones((3, 4)), jnp.ones((3, 4)), block_size=block_size)


def test_importing_the_losses_loads_jax_and_nothing_heavier():
    heavy = "tensorflow flax optax orbax clu ml_collections"
    code = (
        "import sys, simclr_jax.losses;"
        f"print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
