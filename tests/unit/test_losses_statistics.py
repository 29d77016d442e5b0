"""Barlow Twins and VICReg against float64 NumPy, written from papers and code.

The formulas are those of facebookresearch/barlowtwins at 8e8d284 (main.py) and
facebookresearch/vicreg at 4e12602 (main_vicreg.py), written out as loops.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from simclr_jax.losses import barlow_twins, vicreg

N, D = 8, 5


def rows(seed, scale=1.0):
    """Rows with a mean of their own, dimensions of different spread, correlated."""
    draw = np.random.default_rng(seed)
    mixed = draw.standard_normal((N, D)) @ draw.standard_normal((D, D))
    return (scale * (mixed * np.linspace(0.1, 1.2, D) + 0.7)).astype(np.float32)


def barlow_64(z_a, z_b, redundancy=5e-3):
    views = []
    for z in (z_a, z_b):
        z = np.asarray(z, np.float64)
        mean = z.sum(0) / N
        variance = ((z - mean) ** 2).sum(0) / N  # BatchNorm's is biased
        views.append((z - mean) / np.sqrt(variance + 1e-5))
    total = 0.0
    for i in range(D):
        for j in range(D):
            c = sum(views[0][n, i] * views[1][n, j] for n in range(N)) / N
            total += (c - 1) ** 2 if i == j else redundancy * c**2
    return total


def vicreg_64(z_a, z_b, invariance=25.0, variance=25.0, covariance=1.0):
    z_a, z_b = (np.asarray(z, np.float64) for z in (z_a, z_b))
    agree = ((z_a - z_b) ** 2).sum() / (N * D)
    spread = repeated = 0.0
    for z in (z_a, z_b):
        centred = z - z.sum(0) / N
        for i in range(D):
            var = (centred[:, i] ** 2).sum() / (N - 1)  # torch's var is unbiased
            spread += max(0.0, 1 - np.sqrt(var + 1e-4)) / D / 2
            for j in range(D):
                if i != j:
                    entry = (centred[:, i] * centred[:, j]).sum() / (N - 1)
                    repeated += entry**2 / D
    return invariance * agree + variance * spread + covariance * repeated


ORACLES = {"barlow_twins": (barlow_twins, barlow_64), "vicreg": (vicreg, vicreg_64)}
WEIGHTS = {
    "barlow_twins": [{}, {"redundancy": 0.3}, {"redundancy": 0.0}],
    "vicreg": [
        {},
        {"invariance": 1.0, "variance": 0.0, "covariance": 0.0},
        {"invariance": 0.0, "variance": 1.0, "covariance": 0.0},
        {"invariance": 0.0, "variance": 0.0, "covariance": 1.0},
    ],
}
CASES = [(name, options) for name in ORACLES for options in WEIGHTS[name]]


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("name, options", CASES)
def test_it_is_the_authors_loss(name, options, scale):
    loss, oracle = ORACLES[name]
    a, b = rows(0, scale), rows(1, scale)
    found = jax.jit(lambda a, b: loss(a, b, **options))(a, b)
    assert found.shape == ()
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, oracle(a, b, **options), rtol=1e-4)


@pytest.mark.parametrize("name, options", CASES)
def test_the_gradient_is_the_numerical_one_of_the_paper(name, options):
    """By central differences in float64."""
    loss, oracle = ORACLES[name]
    a, b = rows(0), rows(1)
    found = jax.jit(jax.grad(lambda a, b: loss(a, b, **options), (0, 1)))(a, b)
    for given, gradient in enumerate(found):
        for i, d in np.ndindex(N, D):
            sides = []
            for step in (1e-6, -1e-6):
                moved = [a.astype(np.float64), b.astype(np.float64)]
                moved[given][i, d] += step
                sides.append(oracle(*moved, **options))
            numerical = (sides[0] - sides[1]) / 2e-6
            np.testing.assert_allclose(gradient[i, d], numerical, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name, value", [("barlow_twins", D), ("vicreg", 25 * (1 - 0.01))]
)
def test_collapsed_embeddings_have_the_formulas_value(name, value):
    """A constant has no correlation: all of D ones missing. Its variance is 0, and the
    square root of 1e-4 is 0.01."""
    loss, _ = ORACLES[name]
    z = jnp.full((N, D), 0.5)
    found, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(z, z)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


def test_a_dimension_that_is_constant_alone_has_a_finite_gradient():
    a, b = (jnp.asarray(rows(seed)).at[:, 2].set(1.0) for seed in (0, 1))
    for loss, oracle in ORACLES.values():
        found, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(a, b)
        np.testing.assert_allclose(found, oracle(a, b), rtol=1e-4)
        assert all(np.isfinite(g).all() for g in gradients)


def test_closed_forms():
    """Four rows, two uncorrelated dimensions of variance 1 (biased), 4/3 (unbiased)."""
    z = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    np.testing.assert_allclose(barlow_twins(z, z), 0, atol=1e-8)
    # Correlation 1 between the dimensions of each view: 2 x redundancy.
    same = z[:, :1] * jnp.ones((1, 2))
    np.testing.assert_allclose(barlow_twins(same, same), 2 * 5e-3, rtol=1e-3)
    np.testing.assert_allclose(vicreg(z, z), 0, atol=1e-8)  # spread above 1
    # Covariance 4/3, twice in each matrix, two views, over D = 2.
    np.testing.assert_allclose(vicreg(same, same), 2 * (4 / 3) ** 2, rtol=1e-5)
    np.testing.assert_allclose(vicreg(z, -z), 25 * 4, rtol=1e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_a_sharded_batch_has_the_statistics_of_the_whole(name):
    """Under plain jit, and gathered in a shard_map as the docstring says."""
    loss, oracle = ORACLES[name]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    over = PartitionSpec("data")
    a, b = jnp.asarray(rows(0)), jnp.asarray(rows(1))

    def gathered(a, b):
        z_a, z_b = lax.all_gather((a, b), "data", tiled=True)
        return lax.pmean(loss(z_a, z_b), "data")

    mapped = jax.shard_map(
        gathered, mesh=mesh, in_specs=over, out_specs=PartitionSpec()
    )
    halves = jax.device_put((a, b), NamedSharding(mesh, over))
    expected = jax.jit(jax.value_and_grad(loss, (0, 1)))(a, b)
    for f in (loss, mapped):
        found = jax.jit(jax.value_and_grad(f, (0, 1)))(*halves)
        np.testing.assert_allclose(found[0], oracle(a, b), rtol=1e-4)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
            jax.device_get(found),
            jax.device_get(expected),
        )


@pytest.mark.parametrize("name", ORACLES)
def test_a_batch_of_one_has_no_statistics(name):
    one = jax.ShapeDtypeStruct((1, D), jnp.float32)
    with pytest.raises(ValueError, match=r"at least 2 rows, got \(1, 5\) and \(1, 5\)"):
        jax.eval_shape(ORACLES[name][0], one, one)


def test_the_largest_values_named_are_finite():
    a, b = (jnp.asarray(rows(seed)) for seed in (0, 1))
    wide = jnp.tile(a, (64, 64))  # [512, 320]
    for loss, most in ((barlow_twins, 1e17), (vicreg, 1e7)):
        for x, y in ((a, b), (wide, -wide)):
            x, y = (most * z / jnp.abs(z).max() for z in (x, y))
            value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, y)
            assert np.isfinite(value)
            assert all(np.isfinite(g).all() for g in gradients)
