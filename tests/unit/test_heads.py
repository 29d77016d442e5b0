"""Heads against a NumPy transcription; levels, pruning and names by their promises."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import assert_lowers_for_cuda

from simclr_jax.heads import ACTIVATIONS, Classifier, Predictor, Projector, keep_layers

F, DIM = 6, 3


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def h():
    return jnp.asarray(np.random.default_rng(1).normal(size=[8, F]), jnp.float32)


def init(head, x):
    """Variables of a head, with statistics and BatchNorm parameters made uneven."""
    variables = jax.jit(functools.partial(head.init, train=False))(jax.random.key(0), x)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + rng.random(x.shape, np.float32), variables)


NUMPY = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "identity": lambda x: x,
}


def reference(variables, h, layers, activation, train):
    """Every level, written out from the docstring in float64."""
    tree = jax.tree.map(lambda x: np.asarray(x, np.float64), dict(variables))
    x = np.asarray(h, np.float64)
    levels = [x]
    for j in range(1, layers + 1):
        dense = tree["params"][f"dense_{j}"]
        x = x @ dense["kernel"] + dense.get("bias", 0)
        if norm := tree["params"].get(f"bn_{j}"):
            running = tree["batch_stats"][f"bn_{j}"]
            mean = x.mean(0) if train else running["mean"]
            var = x.var(0) if train else running["var"]
            x = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm.get("bias", 0)
        if j < layers:
            x = NUMPY[activation](x)
        levels.append(x)
    return levels


def names_of(layers):
    return ["h", *(f"head_{j}" for j in range(1, layers)), "z"]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "layers, hidden, activation, norm",
    [
        (0, None, "relu", True),
        (1, None, "relu", True),
        (1, None, "relu", False),
        (2, None, "relu", True),
        (3, 5, "tanh", True),
        (4, None, "leaky_relu", True),
        (2, 5, "gelu", False),
        (3, None, "identity", False),
    ],
)
def test_every_level_equals_the_reference(layers, hidden, activation, norm, train, h):
    projector = Projector(layers, hidden, DIM, activation, norm)
    variables = init(projector, h)
    names = names_of(layers)

    @jax.jit
    def outputs(variables, h):
        apply = functools.partial(
            projector.apply, variables, h, train=train, mutable=["batch_stats"]
        )
        levels, _ = apply(method="levels")
        assert list(levels) == names
        for j in range(layers):
            assert list(apply(upto=j, method="levels")[0]) == names[: j + 1]
        return levels, apply()[0], [apply(upto=j)[0] for j in range(layers + 1)]

    levels, z, by_upto = outputs(variables, h)
    expected = reference(variables, h, layers, activation, train)
    assert z.shape == (8, DIM if layers else F)
    np.testing.assert_array_equal(z, levels["z"])
    for j in range(layers + 1):
        name = "z" if j == layers else names[j]
        for x in (levels[name], by_upto[j]):
            np.testing.assert_allclose(x, expected[j], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(levels["h"], h)
    for name in names[1:-1]:
        assert levels[name].shape == (8, hidden or F)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("j", [0, 1, 2, 3])
def test_layers_above_upto_can_be_dropped(j, norm, h):
    projector = Projector(layers=3, hidden=5, dim=DIM, norm=norm)
    variables = init(projector, h)
    kept = {name: keep_layers(tree, j) for name, tree in variables.items()}
    layers = {f"dense_{i}" for i in range(1, j + 1)}
    norms = {f"bn_{i}" for i in range(1, j + 1)} if norm else set()
    assert set(kept["params"]) == layers | norms
    assert set(kept.get("batch_stats", {})) == norms

    for train in (False, True):
        apply = jax.jit(
            functools.partial(
                projector.apply, train=train, upto=j, mutable=["batch_stats"]
            )
        )
        np.testing.assert_array_equal(apply(kept, h)[0], apply(variables, h)[0])
    # Dropped, not just ignored: one level more needs what is gone.
    if j < 3:
        with pytest.raises(Exception, match=f"dense_{j + 1}"):
            projector.apply(kept, h, train=False, upto=j + 1)


def test_keep_layers_counts_beyond_nine_and_copies():
    tree = {f"{name}_{j}": j for j in range(1, 13) for name in ("dense", "bn")}
    assert set(keep_layers(tree, 10).values()) == set(range(1, 11))
    assert len(tree) == 24
    with pytest.raises(ValueError, match="upto must be 0 or more, got -1"):
        keep_layers(tree, -1)


def leaf_names(head, *args, **kwargs):
    variables = jax.eval_shape(
        functools.partial(head.init, **kwargs), jax.random.key(0), *args
    )
    return {
        collection: {layer: set(leaves) for layer, leaves in tree.items()}
        for collection, tree in variables.items()
    }


def test_bias_and_batch_norm_by_name(h):
    statistics = {"mean", "var"}
    # google-research/simclr: BatchNorm after every layer, the last one without centre.
    assert leaf_names(Projector(layers=3), h, train=False) == {
        "params": {
            "dense_1": {"kernel"},
            "bn_1": {"scale", "bias"},
            "dense_2": {"kernel"},
            "bn_2": {"scale", "bias"},
            "dense_3": {"kernel"},
            "bn_3": {"scale"},
        },
        "batch_stats": {f"bn_{j}": statistics for j in (1, 2, 3)},
    }
    assert leaf_names(Projector(layers=1), h, train=False)["params"] == {
        "dense_1": {"kernel"},
        "bn_1": {"scale"},
    }
    assert leaf_names(Projector(layers=2, norm=False), h, train=False) == {
        "params": {f"dense_{j}": {"kernel", "bias"} for j in (1, 2)}
    }
    assert leaf_names(Projector(layers=0), h, train=False) == {}
    assert leaf_names(Predictor(), h, train=False) == {
        "params": {
            "dense_1": {"kernel"},
            "bn_1": {"scale", "bias"},
            "dense_2": {"kernel"},
        },
        "batch_stats": {"bn_1": statistics},
    }


def test_statistics_of_the_layers_used_move_in_training_only(h):
    projector = Projector(layers=3, dim=DIM)
    variables = init(projector, h)
    before = variables["batch_stats"]

    def after(**kwargs):
        apply = functools.partial(projector.apply, mutable=["batch_stats"], **kwargs)
        return jax.jit(apply)(variables, h)[1]["batch_stats"]

    def moved(name, statistics):
        return bool((statistics[name]["mean"] != before[name]["mean"]).any())

    assert [moved(f"bn_{j}", after(train=False)) for j in (1, 2, 3)] == [False] * 3
    assert [moved(f"bn_{j}", after(train=True)) for j in (1, 2, 3)] == [True] * 3
    part = after(train=True, upto=1)
    assert [moved(f"bn_{j}", part) for j in (1, 2, 3)] == [True, False, False]

    batch = np.asarray(h) @ np.asarray(variables["params"]["dense_1"]["kernel"])
    np.testing.assert_allclose(  # decay 0.9
        part["bn_1"]["mean"],
        0.9 * before["bn_1"]["mean"] + 0.1 * batch.mean(0),
        rtol=1e-4,
        atol=1e-6,
    )


def test_heads_compute_in_float32_whatever_comes_in(h):
    for head in (Projector(dim=DIM), Predictor(hidden=4, dim=DIM)):
        half = h.astype(jnp.bfloat16)
        out, variables = jax.eval_shape(
            functools.partial(head.init_with_output, train=False),
            jax.random.key(0),
            half,
        )
        for x in jax.tree.leaves((out, variables)):
            assert x.dtype == jnp.float32


@pytest.mark.parametrize("train", [False, True])
def test_predictor_equals_the_reference(train, h):
    predictor = Predictor(hidden=5, dim=DIM)
    variables = init(predictor, h)
    apply = functools.partial(predictor.apply, train=train, mutable=["batch_stats"])
    out, _ = jax.jit(apply)(variables, h)
    expected = reference(variables, h, 2, "relu", train)[-1]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_classifier_starts_uniform_and_learns(h):
    classifier = Classifier(num_classes=4)
    variables = classifier.init(jax.random.key(0), h)
    logits = classifier.apply(variables, h)
    np.testing.assert_array_equal(logits, np.zeros([8, 4]))
    assert set(variables["params"]["dense"]) == {"kernel", "bias"}

    def loss(variables):
        return -jax.nn.log_softmax(classifier.apply(variables, h))[:, 0].mean()

    gradient = jax.jit(jax.grad(loss))(variables)["params"]["dense"]
    assert abs(gradient["kernel"]).max() > 0
    assert abs(gradient["bias"]).max() > 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda h: Projector(activation="swish"), "activation 'swish' is unknown"),
        (lambda h: Projector(layers=-1), "layers must be 0 or more, got -1"),
        (
            lambda h: Projector().init(jax.random.key(0), h, train=False, upto=3),
            r"upto must be 0 to 2 \(layers\), got 3",
        ),
        (
            lambda h: Projector().init(jax.random.key(0), h, train=False, upto=-1),
            "got -1",
        ),
        (
            lambda h: Projector().init(jax.random.key(0), h[None], train=False),
            r"\[B, F\], got \(1, 8, 6\)",
        ),
    ],
)
def test_wrong_requests_are_named(make, message, h):
    with pytest.raises(ValueError, match=message):
        make(h)


def test_all_activations_are_tested_and_listed():
    assert set(ACTIVATIONS) == set(NUMPY)
    with pytest.raises(ValueError, match=r"relu.*tanh.*leaky_relu.*gelu.*identity"):
        Projector(activation="softplus")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_lowers_for_cuda(dtype):
    projector, x = Projector(layers=3), jax.ShapeDtypeStruct([8, F], dtype)
    variables = jax.eval_shape(
        functools.partial(projector.init, train=False), jax.random.key(0), x
    )

    def loss(params, statistics, x):
        z, moved = projector.apply(
            {"params": params, "batch_stats": statistics},
            x,
            train=True,
            mutable=["batch_stats"],
        )
        return z.sum(), moved

    step = jax.jit(jax.grad(loss, has_aux=True))
    assert_lowers_for_cuda(step, variables["params"], variables["batch_stats"], x)


def test_byols_projector_ends_without_batchnorm():
    """Dense, BatchNorm, ReLU, Dense without bias (arXiv 2006.07733)."""
    h = jnp.ones((4, 6))
    projector = Projector(hidden=5, dim=3, last_norm=False)
    variables = projector.init(jax.random.key(0), h, train=False)
    assert set(variables["params"]) == {"dense_1", "bn_1", "dense_2"}
    assert set(variables["params"]["dense_2"]) == {"kernel"}


def test_a_predictor_is_as_wide_as_what_it_predicts():
    z = jnp.ones((4, 7))
    predictor = Predictor(hidden=5)
    variables = predictor.init(jax.random.key(0), z, train=False)
    assert predictor.apply(variables, z, train=False).shape == (4, 7)
