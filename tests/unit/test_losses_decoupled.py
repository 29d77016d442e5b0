"""Decoupled NT-Xent (DCL and DCLW, arXiv 2110.06848) against float64 NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from simclr_jax.losses import nt_xent

N, D, T, SIGMA = 6, 5, 0.3, 0.4
FORMS = [True, "weighted"]


def rows(seed, count=N):
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def weights(z_a, z_b, sigma=SIGMA):
    """The negative von Mises-Fisher weight of each pair."""
    e = np.exp((unit(z_a) * unit(z_b)).sum(1) / sigma)
    return 2 - e / e.mean()


def dcl(z_a, z_b, t=T, negatives=None, w=1.0):
    """The paper's loss, term by term: [2N]. `w` multiplies the positive term."""
    views = unit(z_a), unit(z_b)
    extra = np.zeros((0, D)) if negatives is None else unit(negatives)
    w = np.broadcast_to(w, N)
    values = []
    for own, other in (views, views[::-1]):
        for i in range(N):
            total = sum(math.exp(own[i] @ x / t) for x in extra)
            for j in range(N):
                if j != i:
                    total += math.exp(own[i] @ own[j] / t)
                    total += math.exp(own[i] @ other[j] / t)
            values.append(-w[i] * (own[i] @ other[i]) / t + math.log(total))
    return np.array(values)


def loss_of(decoupled, **options):
    options = {"temperature": T, "sigma": SIGMA} | options
    return jax.jit(lambda a, b: nt_xent(a, b, decoupled=decoupled, **options))


@pytest.mark.parametrize("block_size", [None, 1, 5])
@pytest.mark.parametrize("negatives", [None, 30 * rows(2, 7)])
@pytest.mark.parametrize("decoupled", FORMS)
def test_it_is_the_papers_loss(decoupled, negatives, block_size):
    a, b = rows(0), rows(1)
    w = weights(a, b) if decoupled == "weighted" else 1.0
    loss = loss_of(decoupled, negatives=negatives, block_size=block_size)(a, b)
    expected = dcl(a, b, negatives=negatives, w=w)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
    # Not the loss with the positive in the denominator.
    coupled = loss_of(False, negatives=negatives)(a, b)
    assert np.abs(coupled - expected).max() > 0.01


@pytest.mark.parametrize("block_size", [None, 5])
@pytest.mark.parametrize("decoupled", FORMS)
def test_the_gradient_is_the_numerical_one_of_the_paper(decoupled, block_size):
    """By central differences in float64. The weights stay those of the point."""
    a, b = rows(0), rows(1)
    w = weights(a, b) if decoupled == "weighted" else 1.0
    uneven = np.arange(1.0, 2 * N + 1)  # a gradient that mixed anchors up would show
    loss = loss_of(decoupled, block_size=block_size)
    found = jax.grad(lambda a, b: (loss(a, b) * uneven).mean(), (0, 1))(a, b)
    for given, gradient in enumerate(found):
        for i, d in np.ndindex(N, D):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [a.astype(np.float64), b.astype(np.float64)]
                moved[given][i, d] += step
                sides.append((dcl(*moved, w=w) * uneven).mean())
            numerical = (sides[0] - sides[1]) / 2e-5
            np.testing.assert_allclose(gradient[i, d], numerical, rtol=1e-3, atol=1e-5)


def test_weights_are_one_on_average_and_smaller_for_near_pairs():
    """The loss without the weight is known, so the weight can be read off."""
    a, b = rows(0), rows(1)
    cosine = (unit(a) * unit(b)).sum(1)
    plain, weighted = loss_of(True)(a, b), loss_of("weighted")(a, b)
    w = 1 - np.asarray(weighted - plain)[:N] * T / cosine
    np.testing.assert_allclose(w.mean(), 1, rtol=1e-3)
    assert (np.argsort(w) == np.argsort(-cosine)).all()


@pytest.mark.parametrize("decoupled", FORMS)
def test_equal_embeddings(decoupled):
    z = jnp.ones((N, 3))
    loss = loss_of(decoupled, temperature=0.1)(z, z)
    np.testing.assert_allclose(loss, math.log(2 * N - 2), atol=1e-5)
    gradient = jax.grad(lambda z: loss_of(decoupled)(z, z).mean())(z)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("block_size", [None, 5])
@pytest.mark.parametrize("decoupled", FORMS)
def test_two_devices_give_what_one_gives(decoupled, block_size):
    """The partner's column and the weights' mean are those of the whole batch."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    over = PartitionSpec("data")

    def mean(a, b):
        loss = nt_xent(
            a,
            b,
            temperature=T,
            sigma=SIGMA,
            decoupled=decoupled,
            axis_name="data",
            block_size=block_size,
        )
        return lax.pmean(loss.mean(), "data")

    sharded = jax.shard_map(mean, mesh=mesh, in_specs=over, out_specs=PartitionSpec())
    a, b = jnp.asarray(rows(0)), jnp.asarray(rows(1))
    found = jax.jit(jax.value_and_grad(sharded, (0, 1)))(a, b)
    whole = loss_of(decoupled)
    expected = jax.value_and_grad(lambda a, b: whole(a, b).mean(), (0, 1))(a, b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )


@pytest.mark.parametrize("decoupled", FORMS)
def test_blocks_hold_no_whole_matrix(decoupled):
    size, width = 4096, 32
    shape = jax.ShapeDtypeStruct((size // 2, width), jnp.float32)
    grad = jax.grad(lambda a, b: loss_of(decoupled, block_size=64)(a, b).mean(), (0, 1))
    memory = jax.jit(grad).lower(shape, shape).compile().memory_analysis()
    promised = 4 * 64 * size + 10 * 4 * size * width
    assert memory.temp_size_in_bytes < promised < 4 * size * size / 5


def test_one_image_has_no_negatives():
    one = jnp.ones((1, 3))
    with pytest.raises(ValueError, match="decoupled needs negatives"):
        nt_xent(one, one, decoupled=True)
    loss = nt_xent(one, one, decoupled=True, negatives=jnp.ones((4, 3)))
    np.testing.assert_allclose(loss, math.log(4), atol=1e-5)


def test_wrong_options_are_named():
    z = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"decoupled must be one of .* got 'wieghted'"):
        nt_xent(z, z, decoupled="wieghted")
    with pytest.raises(ValueError, match="sigma must be positive"):
        nt_xent(z, z, decoupled="weighted", sigma=0.0)
