"""BYOL against formulas of its own; the contract is in test_methods.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_methods import KEY, build, init, views
from tiny import TinyEncoder

from simclr_jax.heads import Predictor, Projector

pytestmark = pytest.mark.usefixtures("compile_in_haste")

PROJECTOR = Projector(layers=2, hidden=32, dim=4, last_norm=False)
PREDICTOR = Predictor(hidden=32)


def byol(**options):
    return build("byol", projector=PROJECTOR, predictor=PREDICTOR, **options)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_loss_is_equation_2_over_both_directions():
    """Each view normalised by itself, the targets by the target's own weights."""
    method = byol(target_init="random")
    params, model_state = init(method)
    target = model_state["target"]
    assert not np.allclose(
        target["params"]["encoder"]["Conv_0"]["kernel"],
        params["encoder"]["Conv_0"]["kernel"],
    )
    pair = views()

    def run(module, weights, stats, part, x):
        variables = {"params": weights[part], "batch_stats": stats[part]}
        return module.apply(variables, x, train=True, mutable="batch_stats")

    def project(weights, stats, x):
        h, h_stats = run(TinyEncoder(), weights, stats, "encoder", x)
        z, z_stats = run(PROJECTOR, weights, stats, "projector", h)
        return z, h_stats["batch_stats"], z_stats["batch_stats"]

    expected, moved = 0.0, {"online": [], "target": []}
    for seen, other in (pair, pair[::-1]):
        z, *stats = project(params, model_state["batch_stats"], seen)
        p, _ = run(PREDICTOR, params, model_state["batch_stats"], "predictor", z)
        t, *target_stats = project(target["params"], target["batch_stats"], other)
        expected += np.mean(np.sum((unit(p) - unit(t)) ** 2, axis=1))
        moved["online"].append(stats)
        moved["target"].append(target_stats)

    loss, (new_state, metrics) = jax.jit(method.loss)(params, model_state, KEY, pair)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    # The running statistics take one update: the mean over views.
    for found, name in ((new_state, "online"), (new_state["target"], "target")):
        mean = jax.tree.map(lambda a, b: (a + b) / 2, *moved[name])
        for part, stats in zip(("encoder", "projector"), mean, strict=True):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
                dict(found["batch_stats"][part]),
                dict(stats),
            )
    assert 0 < float(metrics["embedding_std"]) <= 1


def test_the_target_gets_no_gradient():
    method = byol(target_init="random")
    params, model_state = init(method)

    def loss(weights):
        target = model_state["target"] | {"params": weights}
        state = model_state | {"target": target}
        return method.loss(params, state, KEY, views())[0]

    target = model_state["target"]["params"]
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(target)):
        np.testing.assert_array_equal(leaf, 0)
    # Not because the loss does not depend on it.
    scaled = jax.tree.map(lambda x: x[..., ::-1] * 1.5, target)
    assert not np.allclose(loss(target), loss(scaled))


def test_the_target_follows_by_the_papers_schedule():
    """tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2, section 3.2."""
    method = byol(momentum=0.9)
    params, model_state = init(method)
    old = model_state["target"]["params"]
    moved = jax.tree.map(lambda x: x + 1, params)
    moved["online_probe"] = {"kernel": jnp.ones(2)}  # as pretraining adds
    for progress, tau in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        state = jax.jit(method.update)(moved, model_state, progress)
        for part in ("encoder", "projector"):
            jax.tree.map(
                lambda new, was: np.testing.assert_allclose(
                    new, was + (1 - tau), atol=1e-6
                ),
                state["target"]["params"][part],
                old[part],
            )
        # BatchNorm's statistics are the target's own: not averaged.
        jax.tree.map(
            np.testing.assert_array_equal,
            state["target"]["batch_stats"],
            model_state["target"]["batch_stats"],
        )
        assert set(state["target"]["params"]) == {"encoder", "projector"}


def test_a_target_with_momentum_1_stays_as_it_began():
    method = byol(momentum=1.0, target_init="random")
    params, model_state = init(method)
    state = jax.jit(method.update)(params, model_state, 0.3)
    jax.tree.map(
        np.testing.assert_array_equal,
        state["target"]["params"],
        model_state["target"]["params"],
    )


def test_collapse_is_visible():
    method = byol()
    params, model_state = init(method)
    same = (jnp.full((8, 8, 8, 3), 0.5),) * 2
    _, (_, metrics) = jax.jit(method.loss)(params, model_state, KEY, same)
    np.testing.assert_allclose(metrics["embedding_std"], 0, atol=1e-3)


@pytest.mark.parametrize(
    "options, word",
    [({"momentum": 1.1}, "momentum"), ({"target_init": "copy"}, "target_init")],
)
def test_options_out_of_range(options, word):
    with pytest.raises(ValueError, match=word):
        byol(**options)


def test_a_microbatch_is_normalised_and_regressed_by_itself():
    """Nothing meets between images but BatchNorm: the loss is the mean of those of the
    micro-batches, images 0, 2, 4, 6 and 1, 3, 5, 7."""
    params, model_state = init(byol())
    a, b = views()
    gradient = jax.jit(jax.value_and_grad(byol().loss, has_aux=True))
    parts = [gradient(params, model_state, KEY, (a[i::2], b[i::2])) for i in range(2)]
    in_two = byol(microbatch=4)
    gradient = jax.jit(jax.value_and_grad(in_two.loss, has_aux=True))
    (loss, (state, _)), grads = gradient(params, model_state, KEY, (a, b))

    expected = jax.tree.map(lambda x, y: (x + y) / 2, *parts)
    (expected_loss, (expected_state, _)), expected_grads = expected
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    whole, _ = jax.jit(byol().loss)(params, model_state, KEY, (a, b))
    assert abs(loss - whole) > 1e-3  # BatchNorm over all eight is another loss
    for found, wanted in ((state, expected_state), (grads, expected_grads)):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
            found,
            wanted,
        )
