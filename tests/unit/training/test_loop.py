"""The loop against hand-written optimisation of a quadratic."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadratic import TARGET, endless, plan, quadratic, start

from simclr_jax import processes, signals
from simclr_jax import training as train
from simclr_jax.errors import DataError, DivergedError, StoppedError
from simclr_jax.training import loss_scale, optimizers
from simclr_jax.training.progress import Progress


def every(steps, run, **options):
    return train.Evaluation(steps, run, **options)


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


@pytest.mark.parametrize("name", ["sgd", "lars", "adam", "adamw", "sgd in float16"])
def test_the_learning_rate_on_record_is_the_one_applied(name):
    """Also after a step that was skipped, which the schedule did not count."""
    fields = {"schedule": "cosine", "warmup_steps": 2, "total_steps": 8}
    tx, schedule = optimizers.make(name.split()[0], lr=0.1, momentum=0.0, **fields)
    tx = loss_scale.dynamic(tx) if "float16" in name else tx
    state = train.init_state({"bias": jnp.zeros(3)}, {}, tx)

    def slope(params, model_state, key, batch):  # a gradient of 1: Adam's step is lr
        return jnp.sum(params["bias"] * batch), (model_state, {})

    recorder, seen = Recorder(), [0.0]
    recorder.run(
        tx,
        state,
        (jnp.full(3, np.nan if step in (1, 4) else 1.0) for step in range(7)),
        plan(7, log_every=1),
        loss_fn=slope,
        schedule=schedule,
        evaluations=(
            every(1, lambda state, _: seen.append(float(state.params["bias"][0]))),
        ),
    )
    applied = -np.diff(seen)
    # Step 1 is at the foot of the warm-up.
    assert list(np.flatnonzero(applied == 0)) == [0, 1, 4]
    applied[4] = applied[3]  # on record is the last update's
    recorded = [values["lr"] for _, values in recorder.lines]
    np.testing.assert_allclose(recorded, applied, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("per_call", [1, 3])
def test_progress_hears_of_every_call_but_the_last_two(per_call):
    """Two calls are under way: of those before them it is told, with their loss."""
    heard, tx, state = [], optax.sgd(0.0), start(optax.sgd(0.0))

    class Heard(Progress):
        def passed(self, step, loss):
            heard.append((step, loss()))

    def loss(params, model_state, key, batch):
        return jnp.mean(batch["x"]), (model_state, {})

    step_fn = train.make_step(loss, tx)
    train.run(
        train.make_steps(step_fn) if per_call > 1 else step_fn,
        state,
        jax.random.key(0),
        ({"x": jnp.full(2, float(number))} for number in range(1, 13)),
        plan(12, log_every=12, save_every=12)._replace(steps_per_call=per_call),
        train.Hooks(
            record=lambda step, **values: None,
            save=lambda state: None,
            progress=Heard("t", 0, 12, 5, 2, 0, silent=True),
            schedule=lambda step: 0.0,
        ),
    )
    ends = range(per_call, 13, per_call)
    assert heard == [(step, float(step)) for step in list(ends)[:-2]]


def test_run_records_saves_and_evaluates_when_due():
    tx, recorder = optax.sgd(0.1), Recorder()
    state = recorder.run(
        tx,
        start(tx),
        endless(),
        plan(7),
        evaluations=tuple(
            every(
                steps,
                lambda state, step, name=name: recorder.evaluated.append(
                    (name, int(state.step), step)
                ),
            )
            for name, steps in (("a", 3), ("b", 2), ("never", 0))
        ),
    )
    assert int(state.step) == 7
    assert [step for step, _ in recorder.lines] == [2, 4, 6, 7]
    assert [values["epoch"] for _, values in recorder.lines] == [0.4, 0.8, 1.2, 1.4]
    # The learning rate recorded with step n is the one its update used: schedule(n-1).
    np.testing.assert_allclose(
        [v["lr"] for _, v in recorder.lines], [0.1, 0.3, 0.5, 0.6]
    )
    assert recorder.saved == [4, 7]
    assert recorder.evaluated == [
        (name, step, step)
        for name, step in (("b", 2), ("a", 3), ("b", 4), ("a", 6), ("b", 6))
    ]


def test_a_run_killed_in_an_evaluation_evaluates_again():
    tx = optax.sgd(0.1)
    first = Recorder()
    state = first.run(tx, start(tx), endless(), plan(3))
    for on_record, expected in ((set(), [3, 6]), ({3}, [6])):
        second, other = Recorder(), []
        second.run(
            tx,
            jax.tree.map(jnp.copy, state),
            endless(),
            plan(7),
            evaluations=(
                every(
                    3,
                    lambda state, step, to=second: to.evaluated.append(step),
                    recorded=on_record.__contains__,
                ),
                every(3, lambda state, step, to=other: to.append(step)),
            ),
        )
        assert second.evaluated == expected
        assert other == [3, 6]  # it has a record of its own


def test_the_state_is_saved_before_an_evaluation_that_trains():
    """So that a kill in it, or at any time after it, repeats no other training."""
    tx, recorder = optax.sgd(0.1), Recorder()
    seen = []

    def look(state, step):
        seen.append((step, list(recorder.saved)))

    for trains in (False, True):
        recorder.saved.clear()
        evaluation = every(3, look, trains=trains)
        recorder.run(tx, start(tx), endless(), plan(6), evaluations=(evaluation,))
    assert seen == [(3, []), (6, [4, 6]), (3, [3]), (6, [3, 4, 6])]
    # At a step that is on record nothing is due, so nothing is saved.
    recorder.saved.clear()
    evaluation = every(3, look, recorded=lambda step: True, trains=True)
    recorder.run(tx, start(tx), endless(), plan(7), evaluations=(evaluation,))
    assert recorder.saved == [4, 7]


def test_stopping_in_an_evaluation_saves(monkeypatch):
    tx, recorder = optax.sgd(0.1), Recorder()

    def evaluate(state, step):
        monkeypatch.setattr(signals, "_received", [15])
        signals.check_stop()

    with pytest.raises(StoppedError):
        recorder.run(
            tx, start(tx), endless(), plan(7), evaluations=(every(3, evaluate),)
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


@pytest.mark.parametrize("count", [1, 2])
def test_an_unreadable_image_saves_the_last_step(monkeypatch, count):
    """Unless other processes train along: they read on, and saving takes them all."""
    tx, recorder = optax.sgd(0.1), Recorder()
    monkeypatch.setattr(processes, "count", lambda: count)

    def batches():
        for _ in range(6):
            yield jnp.asarray(TARGET)
        raise DataError("path", "cannot read 7.jpg")

    with pytest.raises(DataError, match=r"7\.jpg"):
        recorder.run(tx, start(tx), batches(), plan(20))
    assert recorder.saved == ([4, 6] if count == 1 else [4])


def test_divergence_stops_and_saves_nothing_more():
    tx, recorder = optax.sgd(0.1), Recorder()

    def batches():
        for number in range(100):
            yield jnp.full(3, np.nan if number >= 6 else 1.0)

    with pytest.raises(DivergedError, match="since step 7"):
        recorder.run(tx, start(tx), batches(), plan(100, save_every=6))
    assert recorder.saved == [6, 12]


def test_the_error_of_an_earlier_save_ends_the_training_before_the_next_step():
    tx, recorder, asked = optax.sgd(0.1), Recorder(), []

    def check():
        asked.append(len(recorder.saved))
        if len(asked) == 6:
            raise OSError("cannot save")

    with pytest.raises(OSError, match="cannot save"):
        recorder.run(tx, start(tx), endless(), plan(20, log_every=1), check=check)
    assert asked == [0, 0, 0, 0, 1, 1]
    assert [step for step, _ in recorder.lines] == [1, 2, 3, 4, 5]
    assert recorder.saved == [4]


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
