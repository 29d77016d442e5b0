"""The step against hand-written optimisation of a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadratic import TARGET, quadratic, start

from simclr_jax import data
from simclr_jax import training as train


def test_step_is_gradient_descent():
    tx = optax.sgd(0.1)
    step = train.make_step(quadratic, tx)
    state, key = start(tx), jax.random.key(0)
    w = np.zeros(3)
    for _ in range(3):
        state, metrics = step(state, key, jnp.asarray(TARGET))
        loss = 0.5 * np.sum((w - TARGET) ** 2)
        norm = np.linalg.norm(w - TARGET)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-6)
        w = w - 0.1 * (w - TARGET)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-6)
    assert int(state.step) == 3
    assert int(state.model_state["count"]) == 3


def test_state_is_donated():
    tx = optax.adam(0.1)
    state = start(tx)
    train.make_step(quadratic, tx)(state, jax.random.key(0), jnp.asarray(TARGET))
    assert state.params["w"].is_deleted()


def test_each_step_has_its_own_key():
    tx = optax.sgd(0.1)
    step = train.make_step(quadratic, tx)
    state, draws = start(tx), []
    key = jax.random.key(3)
    for number in range(3):
        state, metrics = step(state, key, jnp.asarray(TARGET))
        expected = jax.random.uniform(jax.random.fold_in(key, number))
        assert float(metrics["draw"]) == float(expected)
        draws.append(float(metrics["draw"]))
    assert len(set(draws)) == 3


def test_after_sees_new_params_and_this_step():
    tx = optax.sgd(1.0)  # one step lands on the target
    params = {"w": jnp.zeros(3)}
    state = train.init_state(params, {"seen": jnp.zeros(3)}, tx)

    def loss_fn(params, model_state, key, batch):
        return 0.5 * jnp.sum((params["w"] - batch) ** 2), (model_state, {})

    def after(params, model_state, step):
        return {"seen": params["w"] * step}

    step = train.make_step(loss_fn, tx, after)
    for number in (1, 2):
        state, _ = step(state, jax.random.key(0), jnp.asarray(TARGET) + number)
    np.testing.assert_allclose(state.model_state["seen"], 2 * (TARGET + 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing(bad):
    tx = optax.adam(0.1)
    step = train.make_step(quadratic, tx)
    key = jax.random.key(0)
    state, _ = step(start(tx), key, jnp.asarray(TARGET))
    before = jax.device_get(state)
    state, metrics = step(state, key, jnp.full(3, bad))
    after = jax.device_get(state)
    assert int(metrics["skipped"]) == int(after.skipped) == 1
    assert int(after.step) == 2
    for name in ("params", "model_state", "opt_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(before, name), getattr(after, name)
        )
    state, _ = step(state, key, jnp.asarray(TARGET))
    assert int(state.skipped) == 0


def test_a_resident_batch_is_gathered_in_the_step():
    def loss_fn(params, model_state, key, batch):
        loss = (params["w"].sum() - batch["image"].astype(jnp.float32).sum()) ** 2
        return loss, (model_state, {"labels": batch["label"].sum()})

    dataset = {"image": jnp.arange(10, dtype=jnp.uint8), "label": jnp.arange(10) * 10}
    batch = {"index": np.array([3, 7], np.int32), "dataset": dataset}
    tx = optax.sgd(0.0)
    _, metrics = train.make_step(loss_fn, tx, prepare=data.take)(
        start(tx), jax.random.key(0), batch
    )
    assert float(metrics["loss"]) == 100.0
    assert int(metrics["labels"]) == 100
