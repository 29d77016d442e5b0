"""The contract, for every method found; SimCLR against formulas of its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import TinyEncoder

from simclr_jax import losses, methods, train
from simclr_jax.heads import Projector
from simclr_jax.methods import _network

KEY = jax.random.key(0)
METHODS = methods.names()


def views(count=8, seed=0):
    rng = np.random.default_rng(seed)
    pair = rng.random((2, count, 8, 8, 3), np.float32)
    return jnp.asarray(pair[0]), jnp.asarray(pair[1])


def build(name, **changes):
    projector = Projector(layers=2, hidden=6, dim=4)
    return methods.make(name, TinyEncoder(), projector=projector, **changes)


def init(method):
    return jax.jit(method.init)(KEY, views()[0])


@pytest.mark.parametrize("name", METHODS)
def test_init_has_the_promised_parts(name):
    params, model_state = init(build(name))
    assert {"encoder", "projector"} <= set(params)
    assert {"encoder", "projector"} <= set(model_state["batch_stats"])


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_differentiable_and_moves_the_statistics(name):
    method = build(name)
    params, model_state = init(method)
    loss = partial(method.loss, features=True)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (loss, (new_state, metrics)), grads = gradient(
        params, model_state, KEY, views(), jnp.arange(8)
    )
    assert loss.shape == ()
    assert np.isfinite(loss)
    assert jax.tree.structure(new_state) == jax.tree.structure(model_state)
    norms = jax.tree.map(lambda g: float(jnp.abs(g).max()), grads)
    assert np.isfinite(jax.tree.leaves(norms)).all()
    assert norms["encoder"]["Conv_0"]["kernel"] > 0
    assert norms["projector"]["dense_2"]["kernel"] > 0
    old = model_state["batch_stats"]["encoder"]["BatchNorm_0"]["mean"]
    new = new_state["batch_stats"]["encoder"]["BatchNorm_0"]["mean"]
    assert not np.allclose(old, new)
    scalars = {k: v for k, v in metrics.items() if k != "h"}
    assert all(np.shape(value) == () for value in scalars.values())
    assert metrics["h"].shape == (8, 8)


@pytest.mark.parametrize("name", METHODS)
def test_trains_donated_and_falls(name):
    method = build(name)
    tx = optax.adam(3e-3)

    def loss_fn(params, model_state, key, batch):
        return method.loss(params, model_state, key, batch)

    def start():
        return train.init_state(*method.init(KEY, views()[0]), tx)

    step = train.make_step(
        loss_fn, tx, lambda params, state, n: method.update(params, state, n / 40)
    )
    a, _ = views(16)
    pair = (a, jnp.clip(a + 0.02, 0, 1))  # two views that are nearly one image
    state, seen = jax.jit(start)(), []
    for _ in range(40):
        state, metrics = step(state, KEY, pair)
        seen.append(float(metrics["loss"]))
    assert np.mean(seen[-5:]) < np.mean(seen[:5]) - 0.05


@pytest.mark.parametrize("name", METHODS)
def test_embed_gives_every_level_in_inference_mode(name):
    method = build(name)
    params, model_state = init(method)
    images = views()[0]
    embed = jax.jit(method.embed)
    levels = embed(params, model_state, images)
    assert sorted(levels) == ["h", "head_1", "z"]
    shapes = {name: x.shape for name, x in levels.items()}
    assert shapes == {"h": (8, 8), "head_1": (8, 6), "z": (8, 4)}
    # Inference mode: an image's embedding does not depend on its batch.
    alone = embed(params, model_state, images[:1])
    for level in levels:
        np.testing.assert_allclose(alone[level], levels[level][:1], atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_option_names_those_there_are(name):
    with pytest.raises(TypeError, match="temperature"):
        build(name, temprature=0.1)


def test_unknown_method_names_those_found():
    with pytest.raises(ValueError, match="simclr"):
        build("simclear")


def test_a_predictor_is_refused_by_methods_without_one():
    with pytest.raises(TypeError, match="predictor"):
        build("simclr", predictor=Projector())


def test_defaults_are_the_options():
    assert methods.defaults("simclr") == {"temperature": 0.5}


def test_simclr_is_nt_xent_of_both_views_in_one_batch():
    method = build("simclr", temperature=0.2)
    params, model_state = init(method)
    a, b = views()
    loss = jax.jit(partial(method.loss, features=True))
    loss, (new_state, metrics) = loss(params, model_state, KEY, (a, b))

    variables = {
        part: {"params": params[part], "batch_stats": model_state["batch_stats"][part]}
        for part in params
    }
    h, encoder_stats = TinyEncoder().apply(
        variables["encoder"], jnp.concatenate([a, b]), train=True, mutable="batch_stats"
    )
    z, _ = Projector(layers=2, hidden=6, dim=4).apply(
        variables["projector"], h, train=True, mutable="batch_stats"
    )
    z = np.asarray(z, np.float64)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    similarity = z @ z.T / 0.2
    total = 0.0
    for i in range(16):
        others = np.delete(np.exp(similarity[i]), i).sum()
        total -= np.log(np.exp(similarity[i, (i + 8) % 16]) / others)
    np.testing.assert_allclose(loss, total / 16, rtol=1e-5)
    np.testing.assert_allclose(metrics["h"], h[:8], rtol=1e-5)
    jax.tree.map(
        np.testing.assert_allclose,
        new_state["batch_stats"]["encoder"],
        dict(encoder_stats["batch_stats"]),
    )


def test_simclr_gauges_at_their_extremes():
    method = build("simclr")
    params, model_state = init(method)
    loss = jax.jit(method.loss)
    # All images equal: embeddings collapse to one point, no neighbour is the pair's.
    same = (jnp.full((8, 8, 8, 3), 0.5),) * 2
    _, (_, metrics) = loss(params, model_state, KEY, same)
    np.testing.assert_allclose(metrics["embedding_std"], 0, atol=1e-3)
    assert float(metrics["contrastive_accuracy"]) == 0.0
    # Both views identical, images different: the pair is always nearest.
    a, _ = views()
    _, (_, metrics) = loss(params, model_state, KEY, (a, a))
    assert float(metrics["contrastive_accuracy"]) == 1.0
    assert 0.1 < float(metrics["embedding_std"]) <= 1.0


def by_hand(params, model_state, a, b, microbatch):
    """The micro-batched SimCLR loss, one forward pass after the other."""
    count = len(a) // microbatch
    outputs = []
    for i in range(count):
        chosen = jnp.arange(i, len(a), count)
        (_, z), stats = _network.forward(
            TinyEncoder(),
            Projector(layers=2, hidden=6, dim=4),
            params,
            model_state["batch_stats"],
            jnp.concatenate([a[chosen], b[chosen]]),
        )
        outputs.append((chosen, z, stats))
    order = jnp.argsort(jnp.concatenate([chosen for chosen, _, _ in outputs]))
    z_a = jnp.concatenate([z[:microbatch] for _, z, _ in outputs])[order]
    z_b = jnp.concatenate([z[microbatch:] for _, z, _ in outputs])[order]
    stats = jax.tree.map(lambda *x: sum(x) / count, *[s for _, _, s in outputs])
    return losses.nt_xent(z_a, z_b, temperature=0.5).mean(), stats


@pytest.mark.parametrize("microbatch", [2, 4])
def test_microbatches_give_the_gradient_of_the_whole(microbatch):
    a, b = views()
    method = build("simclr", microbatch=microbatch)
    params, model_state = init(method)
    loss = partial(method.loss, features=True)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (loss, (new_state, metrics)), grads = gradient(params, model_state, KEY, (a, b))
    gradient = jax.jit(jax.value_and_grad(by_hand, has_aux=True), static_argnums=4)
    (expected, stats), expected_grads = gradient(params, model_state, a, b, microbatch)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        grads,
        expected_grads,
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        new_state["batch_stats"],
        stats,
    )
    assert metrics["h"].shape == (8, 8)


def test_microbatches_keep_the_order_of_the_batch():
    def apply(images, batch_stats):
        return images[:, 0, 0, :1], batch_stats

    a = jnp.arange(12.0)[:, None, None, None] * jnp.ones((12, 2, 2, 1))
    first, second, _ = _network.encode_pair(apply, (a, -a), {}, microbatch=3)
    np.testing.assert_array_equal(first[:, 0], np.arange(12))
    np.testing.assert_array_equal(second[:, 0], -np.arange(12))


def test_microbatch_must_divide_the_batch():
    method = build("simclr", microbatch=3)
    params, model_state = init(method)
    with pytest.raises(ValueError, match="3 does not divide the batch 8"):
        method.loss(params, model_state, KEY, views())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_whole_step_lowers_for_cuda(dtype):
    from simclr_jax import augment, pretrain
    from simclr_jax.encoders import ResNet

    encoder = ResNet(depth=18, width=0.125, stem="cifar", dtype=dtype)
    method = methods.make("simclr", encoder, microbatch=4)
    pair = (augment.View(blur=0.5), augment.View(solarize=0.2))
    loss_fn = pretrain.make_loss(method, pair, 32, 0)
    tx = optax.adam(1e-3)
    batch = {
        "index": jax.ShapeDtypeStruct((8,), jnp.int32),
        "dataset": {
            "image": jax.ShapeDtypeStruct((50, 32, 32, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct((50,), jnp.int32),
        },
    }
    state = jax.eval_shape(
        lambda: train.init_state(*method.init(KEY, jnp.zeros((2, 32, 32, 3))), tx)
    )
    exported = jax.export.export(train.make_step(loss_fn, tx), platforms=["cuda"])(
        state, jax.eval_shape(lambda: KEY), batch
    )
    assert exported.platforms == ("cuda",)
    assert "callback" not in exported.mlir_module()
