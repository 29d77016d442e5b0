"""SimSiam, Barlow Twins and VICReg; the contract is in test_methods.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_methods import KEY, Plain, build, init, views
from tiny import TinyEncoder

from simclr_jax import losses
from simclr_jax.heads import Predictor, Projector

pytestmark = pytest.mark.usefixtures("compile_in_haste")

HEAD = Projector(layers=2, hidden=6, dim=4)
PREDICTOR = Predictor(hidden=8)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def run(module, params, model_state, part, x):
    """A part of the network in training mode, on one view."""
    stats = model_state["batch_stats"][part]
    variables = {"params": params[part], "batch_stats": stats}
    return module.apply(variables, x, train=True, mutable="batch_stats")[0]


def project(params, model_state, view):
    h = run(TinyEncoder(), params, model_state, "encoder", view)
    return run(HEAD, params, model_state, "projector", h)


@pytest.mark.parametrize("symmetric", [True, False])
def test_simsiam_is_minus_the_cosine_of_prediction_and_projection(symmetric):
    """Algorithm 1 of the paper: D(p1, z2) / 2 + D(p2, z1) / 2."""
    method = build("simsiam", predictor=PREDICTOR, symmetric=symmetric)
    params, model_state = init(method)
    z = [project(params, model_state, view) for view in views()]
    p = [run(PREDICTOR, params, model_state, "predictor", x) for x in z]
    first, second = (-(unit(p[i]) * unit(z[1 - i])).sum(1).mean() for i in range(2))
    expected = (first + second) / 2 if symmetric else first
    loss, _ = jax.jit(method.loss)(params, model_state, KEY, views())
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_simsiam_stops_the_gradient_of_what_is_predicted():
    """With an identity in place of networks, the gradient is that of p alone."""
    z_dim = 4
    options = {"projector": Projector(layers=0), "predictor": Plain(z_dim)}
    method = build("simsiam", Plain(z_dim), **options)
    params, model_state = init(method)
    a, b = views()

    def by_hand(params, fixed):
        h = [Plain(z_dim).apply({"params": params["encoder"]}, x, True) for x in (a, b)]
        z = [Plain(z_dim).apply({"params": fixed["encoder"]}, x, True) for x in (a, b)]
        p = [Plain(z_dim).apply({"params": params["predictor"]}, x, True) for x in h]

        def cosine(x, y):
            lengths = jnp.linalg.norm(x, axis=1) * jnp.linalg.norm(y, axis=1)
            return ((x * y).sum(1) / lengths).mean()

        return -(cosine(p[0], z[1]) + cosine(p[1], z[0])) / 2

    expected = jax.jit(jax.grad(by_hand))(params, params)
    gradient = jax.grad(lambda p: method.loss(p, model_state, KEY, (a, b))[0])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5),
        jax.jit(gradient)(params),
        expected,
    )


LOSSES = {
    "barlow_twins": (losses.barlow_twins, {"redundancy": 0.3}),
    "vicreg": (losses.vicreg, {"invariance": 2.0, "variance": 3.0, "covariance": 4.0}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_of_views_normalised_separately(name):
    loss, options = LOSSES[name]
    method = build(name, **options)
    params, model_state = init(method)
    z = [project(params, model_state, view) for view in views()]
    found, _ = jax.jit(method.loss)(params, model_state, KEY, views())
    np.testing.assert_allclose(found, loss(*z, **options), rtol=1e-4)


@pytest.mark.parametrize("name", ["simsiam", "barlow_twins", "vicreg"])
def test_collapse_is_visible(name):
    method = build(name)
    params, model_state = init(method)
    same = (jnp.full((8, 8, 8, 3), 0.5),) * 2
    loss, (_, metrics) = jax.jit(method.loss)(params, model_state, KEY, same)
    assert np.isfinite(loss)
    np.testing.assert_allclose(metrics["embedding_std"], 0, atol=1e-3)


def test_weights_below_zero_are_refused():
    with pytest.raises(ValueError, match="redundancy must not be negative"):
        build("barlow_twins", redundancy=-1.0)
    with pytest.raises(ValueError, match="no weight may be negative"):
        build("vicreg", covariance=-1.0)
