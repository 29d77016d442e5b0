"""Several steps in one call: what is computed and recorded is that of single steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lowering import assert_lowers_for_cuda
from quadratic import plan, quadratic, start

from simclr_jax import data, signals
from simclr_jax import training as train
from simclr_jax.errors import DivergedError, StoppedError
from simclr_jax.training import optimizers
from simclr_jax.training.progress import Progress

TARGETS = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)), jnp.float32)


def loss_fn(params, model_state, key, batch):
    loss, (model_state, metrics) = quadratic(
        params, model_state, key, batch["target"].mean(0)
    )
    return loss, (model_state, metrics | {"draw": jax.random.uniform(key)})


def batches(at=0, targets=TARGETS):
    """Two of the ten targets at a time, in the order of the stages."""
    indices = data.shuffled(len(targets), 2, seed=(3,), start=at)
    return ({"index": index, "dataset": {"target": targets}} for index in indices)


def run(plan, state=None, tx=None, at=0, targets=TARGETS, **hooks):
    """`(state or error, lines, saved states)`."""
    tx = tx or optax.adam(0.1)
    step = train.make_step(loss_fn, tx, prepare=data.take)
    if plan.steps_per_call > 1:
        step = train.make_steps(step, shared=("dataset",))
    lines, saved = [], []
    # A fixed clock, so that all of two lines can be compared.
    progress = Progress("t", at, plan.last_step, 5, 2, 0, silent=True)
    progress.advance = lambda step, loss: {"seconds": 1.0}
    default = {
        "record": lambda number, **values: lines.append((number, values)),
        "save": lambda state: saved.append((int(state.step), jax.device_get(state))),
        "schedule": lambda step: 0.1 * step,
    }
    made = train.Hooks(progress=progress, **(default | hooks))
    state = start(tx) if state is None else state
    try:
        state = train.run(
            step, state, jax.random.key(0), batches(at, targets), plan, made
        )
    except (DivergedError, StoppedError) as error:
        return error, lines, saved
    return jax.device_get(state), lines, saved


def keep(states, state, step):
    states.append((step, jax.device_get(state)))


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("at_once", [2, 5, 7, 100])
@pytest.mark.parametrize("last_step", [13, 20])  # 13: in the middle of an epoch
def test_calls_equal_single_steps_bit_for_bit(at_once, last_step):
    seen = {1: [], at_once: []}
    found = {}
    for count, evaluated in seen.items():
        found[count] = run(
            plan(last_step, steps_per_call=count),
            evaluations=(train.Evaluation(5, partial(keep, evaluated)),),
        )
    assert_same(found[1], found[at_once])
    assert_same(seen[1], seen[at_once])
    _, lines, saved = found[at_once]
    assert [step for step, _ in lines] == [*range(2, last_step, 2), last_step]
    assert [step for step, _ in saved] == [*range(4, last_step, 4), last_step]
    assert [step for step, _ in seen[at_once]] == list(range(5, last_step + 1, 5))


def test_calls_are_adam_written_out():
    """Two hundred steps against NumPy, in the order of `data.shuffled`."""
    state, _, _ = run(plan(200, save_every=1000, steps_per_call=60))
    w, m, v = (np.zeros(3) for _ in range(3))
    targets = np.asarray(TARGETS, np.float64)
    order = data.shuffled(10, 2, seed=(3,))
    for step, index in zip(range(1, 201), order, strict=False):
        grad = w - targets[index].mean(0)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        w -= 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-4)
    assert int(state.step) == 200


def test_stopped_and_continued_equals_the_whole(monkeypatch):
    """At the end of a call that no save would have ended; then in other calls."""
    whole, lines, _ = run(plan(20, save_every=100, steps_per_call=7))

    def record(number, **values):
        before.append((number, values))
        if number == 14:
            monkeypatch.setattr(signals, "_received", [15])

    before = []
    settings = {"save_every": 100, "steps_per_call": 7}
    error, _, saved = run(plan(20, **settings), record=record)
    assert isinstance(error, StoppedError)
    assert [step for step, _ in saved] == [14]
    monkeypatch.setattr(signals, "_received", [])
    state = jax.tree.map(jnp.asarray, saved[0][1])
    # And a checkpoint made step by step is continued in calls, and the reverse.
    for at_once in (7, 5, 1):
        settings["steps_per_call"] = at_once
        copy = jax.tree.map(jnp.copy, state)
        again, after, _ = run(plan(20, **settings), copy, at=14)
        assert_same(again, whole)
        assert before + after == lines


def test_the_learning_rate_on_record_is_that_of_each_step():
    """Also after a step that was skipped, which the schedule did not count."""
    targets = TARGETS.at[4].set(jnp.nan)
    tx, schedule = optimizers.make("sgd", lr=0.1, schedule="cosine", total_steps=20)
    made = [
        run(
            plan(18, log_every=1, steps_per_call=count),
            tx=tx,
            targets=targets,
            schedule=schedule,
        )
        for count in (1, 10)
    ]
    assert_same(*(lines for _, lines, _ in made))
    rates = [values["lr"] for _, values in made[1][1]]
    skipped = [step for step, values in made[1][1] if values.get("skipped")]
    assert len(skipped) == 3  # one step of each whole epoch has the row
    updates = [step - sum(x <= step for x in skipped) for step in range(1, 19)]
    expected = [schedule(max(count - 1, 0)) for count in updates]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_divergence_inside_a_call_stops():
    targets = jnp.full((10, 3), jnp.nan)
    error, lines, saved = run(
        plan(100, log_every=5, save_every=100, steps_per_call=50), targets=targets
    )
    assert isinstance(error, DivergedError)
    assert "since step 1" in str(error)
    assert [step for step, _ in lines] == [5]
    assert saved == []


def test_lines_of_one_call_share_its_clock(monkeypatch):
    """Their rate is that of the call, not of the line."""
    from simclr_jax.training import progress

    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Progress("t", 0, 30, 5, 2, 0, silent=True)
    lines, order = [], []

    def steps(state, key, taken):
        order.append(len(taken))
        clock[0] += 2.0
        number = int(state.step) + np.arange(1, len(taken) + 1)
        metrics = {"loss": number / 1.0, "skipped": number * 0, "updates_made": number}
        return state._replace(step=jnp.asarray(number[-1])), metrics

    train.run(
        steps,
        start(optax.sgd(0.1)),
        jax.random.key(0),
        iter([{}] * 30),
        plan(30, log_every=4, save_every=20, steps_per_call=12),
        train.Hooks(
            record=lambda number, **values: lines.append((number, values)),
            save=lambda state: None,
            progress=shown,
            schedule=lambda step: 0.1,
        ),
    )
    assert order == [12, 8, 10]
    rates = {n: (v.get("images_per_second"), v["seconds"]) for n, v in lines}
    first, second, third = (None, 2.0), (8 * 2 / 2.0, 4.0), (10 * 2 / 2.0, 6.0)
    assert rates == {
        **dict.fromkeys((4, 8, 12), first),
        **dict.fromkeys((16, 20), second),
        **dict.fromkeys((24, 28, 30), third),
    }


def test_several_steps_lower_for_cuda():
    tx = optax.adam(0.1)
    step = train.make_step(loss_fn, tx, prepare=data.take)
    steps = train.make_steps(step, shared=("dataset",))
    index = np.arange(2, dtype=np.int32)

    def call(state, key, targets):
        return steps(state, key, [{"index": index, "dataset": {"target": targets}}] * 3)

    state = jax.eval_shape(lambda: start(tx))
    key = jax.eval_shape(lambda: jax.random.key(0))
    call = jax.jit(call, donate_argnums=0)
    assert_lowers_for_cuda(call, state, key, TARGETS, donates=True)
