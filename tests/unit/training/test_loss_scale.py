"""float16's loss scale: gradients too small for it arrive, overflows cost one step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simclr_jax import methods, training
from simclr_jax.encoders import ResNet
from simclr_jax.training import loss_scale

pytestmark = pytest.mark.usefixtures("compile_in_haste")
KEY = jax.random.key(0)


def through_float16(slope, params, model_state, key, batch):
    """slope * w, whose gradient passes float16 on its way back."""
    half = params["w"].astype(jnp.float16)
    return (half.astype(jnp.float32) * slope).sum(), (model_state, {})


def steps(count, tx, loss_fn):
    state = training.init_state({"w": jnp.zeros(2)}, {}, tx)
    step, seen = training.make_step(loss_fn, tx), []
    for _ in range(count):
        state, metrics = step(state, KEY, None)
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, seen


def test_a_gradient_below_float16s_smallest_arrives():
    loss_fn = partial(through_float16, 2e-8)  # half of the smallest is 3e-8
    lost, _ = steps(1, optax.sgd(1.0), loss_fn)
    assert (lost.params["w"] == 0).all()
    state, seen = steps(1, loss_scale.dynamic(optax.sgd(1.0)), loss_fn)
    np.testing.assert_allclose(state.params["w"], -2e-8, rtol=1e-3)
    np.testing.assert_allclose(seen[0]["grad_norm"], 2e-8 * 2**0.5, rtol=1e-3)


def test_an_overflow_halves_the_scale_and_changes_nothing_else():
    # Ten times 2^15, 2^14, 2^13 is beyond float16's largest, 65504; 2^12 is not.
    tx = loss_scale.dynamic(optax.adam(0.1))
    state, seen = steps(3, tx, partial(through_float16, 10.0))
    assert [x["loss_scale"] for x in seen] == [2.0**15, 2.0**14, 2.0**13]
    assert (state.params["w"] == 0).all()
    assert int(state.opt_state.inner[0].count) == 0
    assert [x["skipped"] for x in seen] == [0, 0, 0]
    state, seen = steps(4, tx, partial(through_float16, 10.0))
    np.testing.assert_allclose(state.params["w"], -0.1, rtol=1e-5)  # Adam's first
    assert int(state.opt_state.inner[0].count) == 1
    assert float(state.opt_state.scale) == 2.0**12


def test_what_no_scale_can_cure_counts_as_skipped():
    tx = loss_scale.dynamic(optax.sgd(0.1))
    _, seen = steps(2, tx, partial(through_float16, np.nan))
    assert [x["skipped"] for x in seen] == [1, 2]  # the loss itself is not finite

    def steep_root(params, model_state, key, batch):
        return jnp.sqrt(params["w"]).sum(), (model_state, {})  # infinite slope at 0

    _, seen = steps(17, tx, steep_root)
    assert [x["loss_scale"] for x in seen[-3:]] == [2.0, 1.0, 1.0]
    assert [x["skipped"] for x in seen[-3:]] == [0, 1, 2]


def test_the_scale_doubles_after_2000_finite_steps_up_to_a_limit():
    adjust = jax.jit(loss_scale.adjust)
    state = loss_scale.dynamic(optax.sgd(0.1)).init({"w": jnp.zeros(2)})
    state = adjust(state, jnp.bool_(False))
    for _ in range(1999):
        state = adjust(state, jnp.bool_(True))
    assert float(state.scale) == 2.0**14
    state = adjust(state, jnp.bool_(True))
    assert (float(state.scale), int(state.finite_steps)) == (2.0**15, 0)
    most = state._replace(scale=jnp.float32(2.0**24), finite_steps=jnp.int32(1999))
    assert float(adjust(most, jnp.bool_(True)).scale) == 2.0**24


@pytest.fixture(scope="module")
def loss_after_50_steps():
    """precision -> loss of a small SimCLR after 50 steps, the same views in all."""
    rng = np.random.default_rng(0)
    first = rng.random((16, 16, 16, 3), np.float32)
    noise = rng.normal(size=first.shape).astype(np.float32)
    views = (jnp.asarray(first), jnp.asarray(first[:, :, ::-1] + 0.1 * noise))

    def train_in(precision):
        dtype = jnp.dtype(precision)
        encoder = ResNet(10, 0.125, stem="cifar", dtype=dtype, init_scheme="pytorch")
        method = methods.make("simclr", encoder)
        tx = optax.adam(1e-3)
        if precision == "float16":
            tx = loss_scale.dynamic(tx)
        start = jax.jit(lambda: training.init_state(*method.init(KEY, views[0]), tx))
        step = training.make_step(method.loss, tx)
        state, losses = start(), []
        for _ in range(50):
            state, metrics = step(state, KEY, views)
            losses.append(float(metrics["loss"]))
        for leaf in jax.tree.leaves((state.params, state.model_state)):
            assert leaf.dtype == jnp.float32
        return np.array(losses)

    return train_in


@pytest.fixture(scope="module")
def in_float32(loss_after_50_steps):
    return loss_after_50_steps("float32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_as_float32_does(
    precision, loss_after_50_steps, in_float32
):
    losses = loss_after_50_steps(precision)
    assert in_float32[-5:].mean() < 0.9 * in_float32[0]  # it has learned something
    assert (losses != in_float32).any(), f"{precision} was not used"
    np.testing.assert_allclose(losses[-5:].mean(), in_float32[-5:].mean(), rtol=0.02)
