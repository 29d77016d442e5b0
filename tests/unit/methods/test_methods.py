"""The contract, for every method found; SimCLR against formulas of its own."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from lowering import assert_lowers_for_cuda
from small_methods import FORMS, KEY, Plain, build, init, views
from tiny import TinyEncoder

from simclr_jax import checkpoint, data, losses, methods
from simclr_jax import training as train
from simclr_jax.heads import Projector
from simclr_jax.networks import Network
from simclr_jax.training import loss_scale

pytestmark = pytest.mark.usefixtures("compile_in_haste")
METHODS = methods.names()
CASES = [*METHODS, *FORMS]


@cache
def stepper(case):
    """The train step on `(views, index)` and where it starts; compiled once a case."""
    method, tx = build(case), optax.adam(1e-2)

    def loss_fn(params, model_state, key, batch):
        pair, index = batch
        return method.loss(params, model_state, key, pair, index)

    def after(params, model_state, step):
        return method.update(params, model_state, step / 60)

    start = jax.jit(lambda: train.init_state(*method.init(KEY, views()[0]), tx))
    return train.make_step(loss_fn, tx, after), start


def batch(number, count=16):
    """Nearly equal views of some of 64 noisy images, each of a colour of its own."""
    rng = np.random.default_rng(0)
    images = rng.random((64, 1, 1, 3)) + 0.2 * rng.normal(size=(64, 8, 8, 3))
    index = np.random.default_rng((number, 1)).choice(64, count, replace=False)
    a = jnp.asarray(images[index].clip(0, 1), jnp.float32)
    return (a, jnp.clip(a + 0.02, 0, 1)), jnp.asarray(index, jnp.int32)


@pytest.mark.parametrize("case", CASES)
def test_init_has_the_promised_parts(case):
    params, model_state = init(build(case))
    parts = {"encoder", "projector"}
    assert parts <= set(params)
    assert set(model_state["batch_stats"]) == set(params)
    assert parts | {"predictor"} >= set(params)
    allowed = {"batch_stats", "target", "queue", "cursor", "bank"}
    assert set(model_state) <= allowed
    if "target" in model_state:
        target = model_state["target"]
        assert set(target["params"]) == set(target["batch_stats"]) == parts


@pytest.mark.parametrize("case", CASES)
def test_loss_is_differentiable_and_moves_the_statistics(case):
    method = build(case)
    params, model_state = init(method)
    loss = partial(method.loss, features=True)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (loss, (new_state, metrics)), grads = gradient(
        params, model_state, KEY, views(), jnp.arange(8)
    )
    assert loss.shape == ()
    assert np.isfinite(loss)
    assert jax.tree.structure(new_state) == jax.tree.structure(model_state)
    same = jax.tree.map(
        lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype), *(new_state, model_state)
    )
    assert all(jax.tree.leaves(same))
    norms = jax.tree.map(lambda g: float(jnp.abs(g).max()), grads)
    assert np.isfinite(jax.tree.leaves(norms)).all()
    assert norms["encoder"]["Conv_0"]["kernel"] > 0
    assert norms["projector"]["dense_2"]["kernel"] > 0
    for stats, old in (
        (new_state["batch_stats"], model_state["batch_stats"]),
        *(
            (new_state["target"]["batch_stats"], model_state["target"]["batch_stats"])
            for _ in ["target"]
            if "target" in model_state
        ),
    ):
        means = (x["encoder"]["BatchNorm_0"]["mean"] for x in (stats, old))
        assert not np.allclose(*means)
    scalars = {k: v for k, v in metrics.items() if k != "h"}
    assert {"contrastive_accuracy", "embedding_std"} <= set(scalars)
    assert all(np.shape(value) == () for value in scalars.values())
    assert metrics["h"].shape == (8, 8)


@pytest.mark.parametrize("case", CASES)
def test_trains_donated_and_falls(case):
    step, start = stepper(case)
    state, seen = start(), []
    for number in range(60):
        before = state
        state, metrics = step(state, KEY, batch(number))
        assert all(x.is_deleted() for x in jax.tree.leaves(before))
        seen.append(float(metrics["loss"]))
    assert np.mean(seen[-10:]) < np.mean(seen[:10]) - 0.05


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_continued_is_bit_for_bit_the_same(case, tmp_path):
    """Queue, cursor, target and bank included: all of it is in the checkpoint."""
    step, start = stepper(case)

    def go_on(state, numbers):
        for number in numbers:
            state, _ = step(state, KEY, batch(number))
        return state

    straight = go_on(start(), range(4))
    state = go_on(start(), range(2))
    checkpoint.save(tmp_path, 2, {"state": state._asdict()}, {}, keep=1)
    like = jax.eval_shape(start)._asdict()
    _, items, _ = checkpoint.restore(tmp_path, {"state": like})
    resumed = go_on(train.TrainState(**items["state"]), range(2, 4))
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)


@pytest.mark.parametrize(
    "case", [*METHODS, "moco-memory_bank", "moco-spread", "simclr-memory"]
)
def test_two_devices_give_what_one_gives(case):
    """A batch in two halves, BatchNorm, permutation and queue included."""
    step, start = stepper(case)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    states = [start(), jax.device_put(start(), everywhere)]
    for number in range(3):
        given = batch(number)
        halves = jax.device_put(given, NamedSharding(mesh, PartitionSpec("data")))
        states[0], one = step(states[0], KEY, given)
        with jax.set_mesh(mesh):
            states[1], two = step(states[1], jax.device_put(KEY, everywhere), halves)
        np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-4)
    assert len(jax.tree.leaves(states[1].params)[0].devices()) == 2
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5),
        jax.device_get(states[0]),
        jax.device_get(states[1]),
    )


@pytest.mark.parametrize("case", CASES)
def test_microbatches_change_nothing_but_batchnorm(case):
    plain = {"projector": Projector(layers=1, dim=4, norm=False)}
    if methods.has_predictor(case.partition("-")[0]):
        plain["predictor"] = Plain(4)
    results = []
    for microbatch in (None, 4, 2):
        method = build(case, Plain(), microbatch=microbatch, **plain)
        gradient = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        pair, index = batch(0, 8)
        results.append(gradient(*init(method), KEY, pair, index))
    for other in results[1:]:
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
            results[0],
            other,
        )


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
    known = next(iter(methods.defaults(name)))
    with pytest.raises(TypeError, match=f"'strenght'.*{known}"):
        build(name, strenght=0.1)


def test_a_function_that_returns_no_method_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def mine(encoder, *, temperature=0.5):\n    return encoder\n")
    with pytest.raises(ValueError, match=r"of .*mine\.py returned str, not a Method"):
        methods.make(str(path), "an encoder")


def test_unknown_method_names_those_found():
    with pytest.raises(ValueError, match="simclr"):
        build("simclear")


def test_a_predictor_is_refused_by_methods_without_one():
    with pytest.raises(TypeError, match="predictor"):
        build("simclr", predictor=Projector())


def test_defaults_are_the_options():
    options = {"temperature": 0.5, "memory": 0, "momentum": 0.999, "decoupled": False}
    assert methods.defaults("simclr") == options


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
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        new_state["batch_stats"]["encoder"],
        dict(encoder_stats["batch_stats"]),
    )


def test_simclr_metrics_at_their_extremes():
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


def test_embedding_std_is_the_spread_of_the_directions():
    """Of the D unit vectors: each dimension is 1 once and 0 in D - 1 rows."""
    std = methods.embedding_std(3 * jnp.eye(4))  # lengths make no difference
    np.testing.assert_allclose(std, np.sqrt(1 / 4 - 1 / 16) * 2, rtol=1e-6)
    collapsed = methods.embedding_std(jnp.ones((5, 4)) * jnp.arange(1.0, 6)[:, None])
    np.testing.assert_allclose(collapsed, 0, atol=1e-6)


def by_hand(params, model_state, a, b, microbatch):
    """The micro-batched SimCLR loss, one forward pass after the other."""
    count = len(a) // microbatch
    network = Network(TinyEncoder(), Projector(layers=2, hidden=6, dim=4))
    outputs = []
    for i in range(count):
        chosen = jnp.arange(i, len(a), count)
        both = jnp.concatenate([a[chosen], b[chosen]])
        (_, z), stats = network.train(params, model_state["batch_stats"], both)
        outputs.append((chosen, z, stats))
    order = jnp.argsort(jnp.concatenate([chosen for chosen, _, _ in outputs]))
    z_a = jnp.concatenate([z[:microbatch] for _, z, _ in outputs])[order]
    z_b = jnp.concatenate([z[microbatch:] for _, z, _ in outputs])[order]
    stats = jax.tree.map(lambda *x: sum(x) / count, *[s for _, _, s in outputs])
    return losses.nt_xent(z_a, z_b, temperature=0.5).mean(), stats


@pytest.mark.parametrize("microbatch", [2, 4])
def test_microbatches_give_the_gradient_of_the_whole(microbatch):
    """The network in float64: the rows of a micro-batch have another order by hand, and
    in float32 the gradients of BatchNorm would differ by 1e-3 of their size."""
    method = build("simclr", microbatch=microbatch)
    start = *init(method), *views()
    with jax.enable_x64(True):
        params, model_state, a, b = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64), start
        )
        loss = partial(method.loss, features=True)
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (loss, (new_state, metrics)), grads = gradient(params, model_state, KEY, (a, b))
        gradient = jax.jit(jax.value_and_grad(by_hand, has_aux=True), static_argnums=4)
        expected = gradient(params, model_state, a, b, microbatch)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        ((loss, new_state["batch_stats"]), grads),
        expected,
    )
    assert metrics["h"].shape == (8, 8)


def test_microbatch_must_divide_the_batch():
    method = build("simclr", microbatch=3)
    params, model_state = init(method)
    with pytest.raises(ValueError, match="3 does not divide the batch 8"):
        method.loss(params, model_state, KEY, views())


@pytest.mark.parametrize(
    "case, dtype",
    [("simclr", jnp.float32), ("simclr", jnp.float16)]
    + [(case, jnp.bfloat16) for case in (*METHODS, "simclr-memory")],
)
def test_a_whole_step_lowers_for_cuda(case, dtype):
    from simclr_jax import augment
    from simclr_jax.encoders import ResNet
    from simclr_jax.stages import pretrain

    encoder = ResNet(depth=18, width=0.125, stem="cifar", dtype=dtype)
    method = build(case, encoder, microbatch=4)
    pair = (augment.View(blur=0.5), augment.View(solarize=0.2))
    loss_fn = pretrain.make_loss(method, pair, 32, 0)
    tx = optax.adam(1e-3)
    if dtype == jnp.float16:
        tx = loss_scale.dynamic(tx)
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
    step = train.make_step(
        loss_fn, tx, lambda p, s, n: method.update(p, s, n / 9), prepare=data.take
    )
    key = jax.eval_shape(lambda: KEY)
    assert_lowers_for_cuda(step, state, key, batch, donates=True)


@pytest.mark.parametrize("decoupled", [True, "weighted"])
def test_simclr_decoupled_is_the_loss_of_that_name(decoupled):
    params, model_state = init(build("simclr"))
    a, b = views()
    network = Network(TinyEncoder(), Projector(layers=2, hidden=6, dim=4))
    both = jnp.stack([a, b], 1).reshape(-1, *a.shape[1:])
    (_, z), _ = network.train(params, model_state["batch_stats"], both)
    options = {"temperature": 0.5, "decoupled": decoupled}
    expected = losses.nt_xent(z[::2], z[1::2], **options).mean()
    method = build("simclr", decoupled=decoupled)
    value, _ = jax.jit(method.loss)(params, model_state, KEY, (a, b))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"decoupled must be one of .* got 'half'"):
        build("simclr", decoupled="half")
