"""The step and the loop against hand-written optimisation of a quadratic."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadratic import TARGET, endless, plan, quadratic, start

from simclr_jax import data, signals
from simclr_jax import training as train
from simclr_jax.errors import DivergedError, StoppedError
from simclr_jax.training import loss_scale
from simclr_jax.training import optimizers as optim
from simclr_jax.training.progress import Progress, duration


class Recorder:
    def __init__(self):
        self.lines, self.saved, self.evaluated = [], [], []

    def run(self, tx, state, batches, plan, loss_fn=quadratic, after=None, **options):
        progress = Progress("t", int(state.step), plan.last_step, 5, 2, 0, silent=True)
        return train.run(
            train.make_step(loss_fn, tx, after),
            state,
            jax.random.key(0),
            batches,
            plan,
            train.Hooks(
                record=lambda step, **values: self.lines.append((step, values)),
                save=lambda state: self.saved.append(int(state.step)),
                progress=progress,
                **({"schedule": lambda step: 0.1 * step} | options),
            ),
        )


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


@pytest.mark.parametrize("name", ["sgd", "lars", "adam", "adamw", "sgd in float16"])
def test_the_learning_rate_on_record_is_the_one_applied(name):
    """Also after a step that was skipped, which the schedule did not count."""
    fields = {"schedule": "cosine", "warmup_steps": 2, "total_steps": 8}
    tx, schedule = optim.make(name.split()[0], lr=0.1, momentum=0.0, **fields)
    tx = loss_scale.dynamic(tx) if "float16" in name else tx
    state = train.init_state({"bias": jnp.zeros(3)}, {}, tx)

    def slope(params, model_state, key, batch):  # a gradient of 1: Adam's step is lr
        return jnp.sum(params["bias"] * batch), (model_state, {})

    recorder, seen = Recorder(), [0.0]
    recorder.run(
        tx,
        state,
        (jnp.full(3, np.nan if step in (1, 4) else 1.0) for step in range(7)),
        plan(7, log_every=1, evaluate_every=1),
        loss_fn=slope,
        schedule=schedule,
        evaluate=lambda state, step: seen.append(float(state.params["bias"][0])),
    )
    applied = -np.diff(seen)
    # Step 1 is at the foot of the warm-up.
    assert list(np.flatnonzero(applied == 0)) == [0, 1, 4]
    applied[4] = applied[3]  # on record is the last update's
    recorded = [values["lr"] for _, values in recorder.lines]
    np.testing.assert_allclose(recorded, applied, rtol=1e-4, atol=1e-7)


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


def test_run_records_saves_and_evaluates_when_due():
    tx, recorder = optax.sgd(0.1), Recorder()
    state = recorder.run(
        tx,
        start(tx),
        endless(),
        plan(7, evaluate_every=3),
        evaluate=lambda state, step: recorder.evaluated.append((int(state.step), step)),
    )
    assert int(state.step) == 7
    assert [step for step, _ in recorder.lines] == [2, 4, 6, 7]
    assert [values["epoch"] for _, values in recorder.lines] == [0.4, 0.8, 1.2, 1.4]
    # The learning rate recorded with step n is the one its update used: schedule(n-1).
    np.testing.assert_allclose(
        [v["lr"] for _, v in recorder.lines], [0.1, 0.3, 0.5, 0.6]
    )
    assert recorder.saved == [4, 7]
    assert recorder.evaluated == [(3, 3), (6, 6)]


def test_a_run_killed_in_an_evaluation_evaluates_again():
    tx = optax.sgd(0.1)
    first = Recorder()
    state = first.run(tx, start(tx), endless(), plan(3))
    for on_record, expected in ((set(), [3, 6]), ({3}, [6])):
        second = Recorder()
        second.run(
            tx,
            jax.tree.map(jnp.copy, state),
            endless(),
            plan(7, evaluate_every=3),
            evaluate=lambda state, step, to=second: to.evaluated.append(step),
            evaluated=on_record.__contains__,
        )
        assert second.evaluated == expected


def test_stopping_in_an_evaluation_saves(monkeypatch):
    tx, recorder = optax.sgd(0.1), Recorder()

    def evaluate(state, step):
        monkeypatch.setattr(signals, "_received", [15])
        signals.check_stop()

    with pytest.raises(StoppedError):
        recorder.run(
            tx, start(tx), endless(), plan(7, evaluate_every=3), evaluate=evaluate
        )
    assert recorder.saved == [3]


def test_a_stop_between_two_steps_saves_the_last_step(monkeypatch):
    tx, recorder = optax.sgd(0.1), Recorder()

    def batches():
        for _ in range(6):
            yield jnp.asarray(TARGET)
        monkeypatch.setattr(signals, "_received", [15])
        yield jnp.asarray(TARGET)

    with pytest.raises(StoppedError):
        recorder.run(tx, start(tx), batches(), plan(20))
    assert recorder.saved == [4, 7]


def test_divergence_stops_and_saves_nothing_more():
    tx, recorder = optax.sgd(0.1), Recorder()

    def batches():
        for number in range(100):
            yield jnp.full(3, np.nan if number >= 6 else 1.0)

    with pytest.raises(DivergedError, match="since step 7"):
        recorder.run(tx, start(tx), batches(), plan(100, save_every=6))
    assert recorder.saved == [6, 12]


def test_a_training_that_ends_not_finite_is_no_success():
    tx, recorder = optax.sgd(0.1), Recorder()
    with pytest.raises(DivergedError, match="since step 1"):
        recorder.run(tx, start(tx), endless(np.full(3, np.nan)), plan(3))


def test_compiles_once():
    tx = optax.adam(0.1)
    traces = []

    def loss_fn(*args):
        traces.append(1)
        return quadratic(*args)

    compiled, at_step = [], {}
    listen = partial(_append_compilation, compiled)
    jax.monitoring.register_event_duration_secs_listener(listen)
    recorder = Recorder()
    recorder.lines = Counts(compiled, at_step)
    recorder.run(tx, start(tx), endless(), plan(12), loss_fn=loss_fn)
    assert len(traces) == 1
    assert at_step[2] >= 1, "no compilation was seen"
    assert at_step[12] == at_step[2], "something was compiled after step 2"


def _append_compilation(compiled, event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(duration)


class Counts(list):
    """Notes how many programs were compiled when a step was recorded."""

    def __init__(self, compiled, at_step):
        self._compiled, self._at_step = compiled, at_step

    def append(self, line):
        self._at_step[line[0]] = len(self._compiled)


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (75, "1:15"), (3675, "1:01:15"), (59.6, "1:00")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
