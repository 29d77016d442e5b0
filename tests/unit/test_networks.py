"""Network and its classifier against the flax modules applied by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_methods import KEY, Plain, views
from tiny import TinyEncoder

from simclr_jax.heads import Predictor, Projector, keep_layers
from simclr_jax.networks import (
    ClassifierNetwork,
    Network,
    apply_module,
    init_module,
    moving_average,
    update_target,
)

pytestmark = pytest.mark.usefixtures("compile_in_haste")

ENCODER = TinyEncoder()
HEAD = Projector(layers=3, hidden=6, dim=4)
NETWORK = Network(ENCODER, HEAD)
IMAGES = views()[0]
LAYERS = [(0, "h"), (1, "head_1"), (2, "head_2"), (3, "z")]
equal = np.testing.assert_array_equal


@pytest.fixture(scope="module")
def moved():
    """Params and statistics that are not those of a new network."""
    params, batch_stats = jax.jit(NETWORK.init)(KEY, IMAGES)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: x + jnp.asarray(rng.uniform(0.1, 0.5, x.shape), x.dtype),
        (params, batch_stats),
    )


def run(module, params, batch_stats, part, inputs, **options):
    """flax's own call, statistics as a plain dict."""
    variables = {"params": params[part], "batch_stats": batch_stats[part]}
    output, new = module.apply(variables, inputs, mutable="batch_stats", **options)
    return output, dict(new.get("batch_stats", {}))


def by_hand(params, batch_stats, images, **options):
    """`((h, z), new batch_stats)` of the two modules."""
    h, encoder = run(ENCODER, params, batch_stats, "encoder", images, **options)
    z, head = run(HEAD, params, batch_stats, "projector", h, **options)
    return (h, z), {"encoder": encoder, "projector": head}


def assert_close(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        found,
        expected,
    )


def test_init_is_the_modules_with_a_key_each():
    params, batch_stats = jax.jit(NETWORK.init)(KEY, IMAGES)
    keys = jax.random.split(KEY)
    for key, module, inputs, part in (
        (keys[0], ENCODER, IMAGES, "encoder"),
        (keys[1], HEAD, jnp.zeros((1, 8)), "projector"),
    ):
        variables = jax.jit(partial(module.init, train=True))(key, inputs)
        jax.tree.map(equal, params[part], variables["params"])
        jax.tree.map(equal, batch_stats[part], variables["batch_stats"])


def test_train_normalises_by_the_batch_and_moves_the_statistics(moved):
    found = jax.jit(NETWORK.train)(*moved, IMAGES)
    assert_close(found, jax.jit(lambda *x: by_hand(*x, train=True))(*moved, IMAGES))
    # The running mean takes a tenth of the batch's: flax's momentum 0.9.
    _, new = found
    kernel = moved[0]["projector"]["dense_1"]["kernel"]
    (h, _), _ = found
    old = moved[1]["projector"]["bn_1"]["mean"]
    expected = 0.9 * old + 0.1 * np.mean(h @ kernel, 0)
    np.testing.assert_allclose(new["projector"]["bn_1"]["mean"], expected, rtol=1e-4)


def test_embed_normalises_by_the_running_statistics(moved):
    levels = jax.jit(NETWORK.embed)(*moved, IMAGES)
    assert list(levels) == ["h", "head_1", "head_2", "z"]
    (h, z), stats = jax.jit(lambda *x: by_hand(*x, train=False))(*moved, IMAGES)
    assert_close((levels["h"], levels["z"]), (h, z))
    jax.tree.map(equal, stats, moved[1])
    # Of the layers between by their formula.
    params, stats = (tree["projector"] for tree in jax.device_get(moved))
    x = np.asarray(h, np.float64)
    for j in (1, 2):
        x = x @ params[f"dense_{j}"]["kernel"]
        mean, var = stats[f"bn_{j}"]["mean"], stats[f"bn_{j}"]["var"]
        scale, bias = params[f"bn_{j}"]["scale"], params[f"bn_{j}"]["bias"]
        x = np.maximum((x - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)
        np.testing.assert_allclose(levels[f"head_{j}"], x, rtol=1e-4, atol=1e-5)


def test_embed_state_takes_a_methods_whole_state(moved):
    params, batch_stats = moved
    state = {"batch_stats": batch_stats | {"predictor": {}}, "queue": jnp.zeros(3)}
    found = NETWORK.embed_state(params | {"predictor": {}}, state, IMAGES)
    jax.tree.map(equal, found, NETWORK.embed(*moved, IMAGES))


@pytest.mark.parametrize("layer, level", LAYERS)
def test_from_layer_is_a_level_of_embed_in_inference(moved, layer, level):
    params, batch_stats = (
        tree | {"projector": keep_layers(tree["projector"], layer)} for tree in moved
    )
    features, stats = NETWORK.from_layer(
        params, batch_stats, IMAGES, layer, train=False
    )
    np.testing.assert_array_equal(features, NETWORK.embed(*moved, IMAGES)[level])
    jax.tree.map(equal, stats, batch_stats)


@pytest.mark.parametrize("layer, level", LAYERS)
def test_from_layer_in_training_moves_the_statistics_up_to_it(moved, layer, level):
    features, stats = NETWORK.from_layer(*moved, IMAGES, layer, train=True)
    (h, z), whole = by_hand(*moved, IMAGES, train=True)
    if level in ("h", "z"):
        assert_close(features, {"h": h, "z": z}[level])
    assert_close(stats["encoder"], whole["encoder"])
    for name, old in moved[1]["projector"].items():
        below = int(name.removeprefix("bn_")) <= layer
        expected = whole["projector"][name] if below else old
        assert_close(stats["projector"][name], expected)


def test_what_a_checkpoint_left_out_is_empty():
    """A projector of no layers and an encoder without BatchNorm."""
    bare = Network(Plain(), Projector(layers=0))
    params, batch_stats = bare.init(KEY, IMAGES)
    assert (params["projector"], batch_stats) == ({}, {"encoder": {}, "projector": {}})
    restored = {"encoder": params["encoder"]}, {}
    h = Plain().apply({"params": params["encoder"]}, IMAGES, train=False)
    features, stats = bare.from_layer(*restored, IMAGES, 0, train=True)
    equal(features, h)
    assert stats == batch_stats
    (_, z), stats = bare.train(*restored, IMAGES)
    equal(z, h)
    assert stats == batch_stats
    equal(bare.embed(*restored, IMAGES)["z"], h)


@pytest.mark.parametrize("layer, level", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_a_classifier_is_linear_on_its_layer(moved, layer, level, train):
    network = ClassifierNetwork(NETWORK, layer, num_classes=5)
    params, batch_stats = moved
    start, state = network.init(KEY, params, {"batch_stats": batch_stats}, IMAGES)
    assert not jnp.any(start["classifier"]["dense"]["kernel"])
    width = {"h": 8, "z": 4}.get(level, 6)
    kernel = jax.random.normal(KEY, (width, 5))
    start["classifier"] = {"dense": {"kernel": kernel, "bias": jnp.arange(5.0)}}
    logits, new_state = network.logits(start, state, IMAGES, train=train)
    features, stats = NETWORK.from_layer(*moved, IMAGES, layer, train=train)
    np.testing.assert_allclose(
        logits, features @ kernel + np.arange(5.0)[None], rtol=1e-4, atol=1e-5
    )
    stats["projector"] = keep_layers(stats["projector"], layer)
    assert_close(new_state, {"batch_stats": stats})


def test_a_module_alone():
    """With BatchNorm, without, and with a setting of its own."""
    z = jax.random.normal(KEY, (8, 4))
    head = Predictor(hidden=16)
    output, params, stats = jax.jit(init_module, static_argnums=1)(KEY, head, z)
    variables = jax.jit(partial(head.init, train=False))(KEY, z)
    jax.tree.map(equal, {"params": params, "batch_stats": stats}, variables)
    assert_close(output, head.apply(variables, z, train=False))
    for train in (True, False):
        expected, new = head.apply(variables, z, train=train, mutable="batch_stats")
        found = apply_module(head, variables, z, train=train)
        assert_close(found, (expected, new["batch_stats"]))
    output, params, stats = init_module(KEY, Plain(3), z)
    assert stats == {}
    found, stats = apply_module(Plain(3), {"params": params}, z, train=True)
    equal(found, output)
    assert stats == {}
    output, params, stats = init_module(KEY, HEAD, z)
    variables = {"params": params, "batch_stats": stats}
    found, _ = apply_module(HEAD, variables, z, train=False, upto=0)
    equal(found, z)


def test_a_moving_average_is_geometric():
    """From a to a constant b: b + momentum^n (a - b)."""
    a, b, momentum = {"x": jnp.array([1.0, 5.0])}, {"x": jnp.array([3.0, -1.0])}, 0.75
    found = a
    for _ in range(6):
        found = moving_average(found, b, momentum)
    expected = b["x"] + momentum**6 * (a["x"] - b["x"])
    np.testing.assert_allclose(found["x"], expected, rtol=1e-6)


def test_the_target_follows_the_parts_it_has():
    weights = {part: {"w": jnp.full(2, 4.0)} for part in ("encoder", "projector")}
    target = {"params": weights, "batch_stats": {"encoder": {"mean": jnp.ones(2)}}}
    model_state = {"target": target, "queue": jnp.arange(3.0), "batch_stats": {}}
    online = {part: {"w": jnp.full(2, 8.0)} for part in weights} | {
        "predictor": {"w": jnp.ones(1)}
    }
    moved = jax.jit(update_target)(online, model_state, 0.25)
    assert set(moved["target"]["params"]) == {"encoder", "projector"}
    for part in weights:
        equal(moved["target"]["params"][part]["w"], 7.0)  # 0.25 * 4 + 0.75 * 8
    equal(moved["target"]["batch_stats"]["encoder"]["mean"], 1.0)
    equal(moved["queue"], np.arange(3.0))
    # 1 stays, 0 copies.
    for momentum, expected in ((1.0, 4.0), (0.0, 8.0)):
        moved = update_target(online, model_state, momentum)
        equal(moved["target"]["params"]["encoder"]["w"], expected)


def test_equal_networks_are_one():
    """So that one can be a static argument of a jitted function."""
    again = Network(TinyEncoder(), Projector(layers=3, hidden=6, dim=4))
    assert again == NETWORK
    assert hash(again) == hash(NETWORK)
    assert again != Network(TinyEncoder(4), HEAD)
    assert ClassifierNetwork(again, 1, 3) == ClassifierNetwork(NETWORK, 1, 3)
