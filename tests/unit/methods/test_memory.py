"""SimCLRv2's memory against a plain recomputation; the contract is in test_methods."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_methods import KEY, build, init, views
from tiny import TinyEncoder

from configs import common
from simclr_jax import methods
from simclr_jax import training as train
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.heads import Projector
from simclr_jax.networks import Network

pytestmark = pytest.mark.usefixtures("compile_in_haste")

HEAD = Projector(layers=2, hidden=6, dim=4)
TEMPERATURE, MOMENTUM, RATE = 0.3, 0.75, 0.5


@jax.jit
def project(params, stats, images):
    """Unit rows of both views in one batch, and the new statistics."""
    h, encoder = TinyEncoder().apply(
        {"params": params["encoder"], "batch_stats": stats["encoder"]},
        images,
        train=True,
        mutable="batch_stats",
    )
    z, projector = HEAD.apply(
        {"params": params["projector"], "batch_stats": stats["projector"]},
        h,
        train=True,
        mutable="batch_stats",
    )
    stats = {"encoder": encoder, "projector": projector}
    stats = {part: dict(new["batch_stats"]) for part, new in stats.items()}
    return z / jnp.linalg.norm(z, axis=1, keepdims=True), stats


@jax.jit
@jax.value_and_grad
def plain_loss(params, stats, images, queue):
    z, _ = project(params, stats, images)
    size = len(z)
    others = jnp.exp(z @ z.T / TEMPERATURE) * (1 - jnp.eye(size))
    beyond = jnp.exp(z @ queue.T / TEMPERATURE)
    positive = jnp.exp((z * jnp.roll(z, size // 2, axis=0)).sum(1) / TEMPERATURE)
    return -jnp.log(positive / (others.sum(1) + beyond.sum(1))).mean()


def assert_close(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5),
        found,
        expected,
    )


def test_two_steps_by_hand():
    """The queue as it was before each step, then the target's keys of both views.

    The target has weights of its own: the network's keys, or one view's alone, or the
    target moved before its forward pass, would be other rows.
    """
    method = build("simclr", memory=48, momentum=MOMENTUM, temperature=TEMPERATURE)
    tx = optax.sgd(RATE)
    params, model_state = init(method)
    target = model_state["target"]
    weights = jax.tree.map(lambda x: x[..., ::-1] * 1.5, target["params"])
    model_state["target"] = target | {"params": weights}
    model_state["cursor"] = jnp.asarray(32, jnp.int32)
    queue = np.array(model_state["queue"])
    assert queue.shape == (48, 4)
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)
    untouched = queue[16:32].copy()
    stats, target_stats = model_state["batch_stats"], target["batch_stats"]

    state = train.init_state(params, model_state, tx)
    state = jax.tree.map(jnp.array, state)  # the step takes its buffers
    step = train.make_step(method.loss, tx, lambda p, s, _: method.update(p, s, 0.0))
    for number, cursor in ((0, 32), (1, 0)):
        pair = views(seed=number)
        images = jnp.concatenate(pair)
        state, metrics = step(state, KEY, pair)

        loss, grads = plain_loss(params, stats, images, queue)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
        keys, target_stats = project(weights, target_stats, images)
        queue[cursor : cursor + 16] = keys
        _, stats = project(params, stats, images)
        params = jax.tree.map(lambda w, g: w - RATE * g, params, grads)
        weights = jax.tree.map(
            lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, weights, params
        )
    assert int(state.model_state["cursor"]) == 16
    np.testing.assert_array_equal(queue[16:32], untouched)
    assert_close(state.model_state["queue"], queue)
    assert_close(state.params, params)
    assert_close(state.model_state["batch_stats"], stats)
    assert_close(
        state.model_state["target"], {"params": weights, "batch_stats": target_stats}
    )


def test_without_memory_nothing_is_kept_and_with_it_the_weights_are_the_same():
    params, model_state = init(build("simclr"))
    assert set(model_state) == {"batch_stats"}
    start = jax.jit(lambda: Network(TinyEncoder(), HEAD).init(KEY, views()[0]))
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, (params, model_state["batch_stats"]), start())
    method = build("simclr", memory=32)
    jax.tree.map(equal, init(method)[0], params)


@pytest.mark.parametrize(
    "batch, microbatch, options, field, words",
    [
        (256, None, {"memory": 65_536}, None, ""),
        (200, None, {"memory": 65_536}, "batch_size", "400 keys, .* 65536; .* is 256"),
        (200, 48, {"memory": 12_288}, "batch_size", "12288; .* is 192"),
        (256, None, {"memory": 256}, "batch_size", "fits is 128"),
        (8, None, {"memory": 3}, "batch_size", "no batch fits"),
        (8, None, {"momentum": 0.99}, "method.momentum", "method.memory"),
        (7, None, {"momentum": 0.999}, None, ""),
    ],
)
def test_what_does_not_fit_is_named(batch, microbatch, options, field, words):
    found = methods.problem("simclr", batch, microbatch, **options)
    assert (found and found[0]) == field
    if found:
        with pytest.raises(ValueError, match=words):
            raise ValueError(found[1])


def test_the_loss_refuses_a_batch_that_does_not_divide():
    method = build("simclr", memory=24)
    with pytest.raises(ValueError, match=r"method\.memory 24"):
        method.loss(*init(method), KEY, views())


@pytest.mark.parametrize(
    "options, word", [({"memory": -1}, "memory"), ({"momentum": 1.1}, "momentum")]
)
def test_options_out_of_range(options, word):
    with pytest.raises(ValueError, match=word):
        build("simclr", **options)


def test_its_target_can_be_probed_and_only_then():
    config = common.get_config()  # batch 256
    config.probe.target = True
    config.method.memory = 1024
    validate(config)
    for nothing in (0, None):
        config.method.memory = nothing
        with pytest.raises(RequestError, match=r"probe\.target: simclr"):
            validate(config)
