"""What surrounds the loop: restoring, saving, finishing what a signal cut short."""

import json
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_recipe
from quadratic import TARGET, endless, plan, quadratic

from simclr_jax import checkpoint, signals
from simclr_jax.checkpoint import orbax_arrays
from simclr_jax.errors import DivergedError, StoppedError
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages.fit import Training, fit
from simclr_jax.stages.measurement import Measurement


@pytest.fixture
def train(tmp_path):
    """fit() on the quadratic, in one workdir."""
    config = tiny_recipe.get_config()
    workdir = Workdir(tmp_path / "run", config).open()
    run = Experiment(config, workdir, Any)  # the data are not asked for
    training = Training(
        "pretrain",
        "",
        init=lambda: ({"w": jnp.zeros(3)}, {"count": jnp.zeros((), jnp.int32)}),
        loss_fn=lambda *args: quadratic(*args[:3], args[3]["target"]),
        batches=lambda start: ({"target": target} for target in endless(TARGET)),
        num_examples=10,
        meta={},
    )

    def train(plan, tx=optax.adam(0.1), **changes):  # noqa: B008
        run.optimizer = lambda *_: (tx, lambda step: 0.1)
        run.plan = lambda *_: (plan, plan.last_step)
        return fit(run, training._replace(**changes))

    yield train
    workdir.close()


def test_pieces_equal_the_whole(train, tmp_path):
    half, _ = train(plan(3))
    assert int(half.step) == 3
    resumed, _ = train(plan(8))
    assert int(resumed.step) == 8
    tx = optax.adam(0.1)
    w, opt_state = jnp.zeros(3), tx.init(jnp.zeros(3))
    for _ in range(8):
        updates, opt_state = tx.update(w - TARGET, opt_state)
        w = w + updates
    np.testing.assert_allclose(resumed.params["w"], w, rtol=1e-5)


def test_a_state_that_is_not_finite_is_not_kept(train, tmp_path):
    """Loss and gradient are finite, but 3e38 times the gradient is not."""
    with pytest.raises(DivergedError, match="params not finite at step 1"):
        train(plan(1), tx=optax.sgd(3e38))
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == []


def test_an_optimizers_state_that_is_not_finite_is_not_kept(train, tmp_path):
    """Adam's nu holds squares: of a weight decay of 1e38 times a weight."""
    tx = optax.chain(optax.add_decayed_weights(1e38), optax.adam(0.1))
    ones = {"init": lambda: ({"w": jnp.ones(3)}, {"count": jnp.zeros((), jnp.int32)})}
    with pytest.raises(DivergedError, match="opt_state not finite at step 1"):
        train(plan(1), tx=tx, **ones)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == []


def test_a_signal_in_the_last_evaluation_does_not_lose_it(train):
    def stopped(state):
        raise StoppedError("stopped")

    def knn(measure):
        return (Measurement(1, ("knn_top1",), measure),)

    with pytest.raises(StoppedError):
        train(plan(6, steps_per_epoch=6), measurements=knn(stopped))
    seen = []

    def measure(state):
        seen.append(int(state.step))
        return {"knn_top1": 0.5}

    for _ in range(2):  # once it is on record, not again
        train(plan(6, steps_per_epoch=6), measurements=knn(measure))
    assert seen == [6]


def test_measurements_have_periods_and_records_of_their_own(train, tmp_path):
    """The first ends the process once; continued, neither is taken twice."""
    seen, killed = [], []

    def tune(state):
        if int(state.step) == 4 and not killed:
            killed.append(True)
            raise KeyboardInterrupt  # no handler: as if the process had died
        seen.append(("tune", int(state.step)))
        return {"tune_top1": 0.75, "tune_top3": 1.0}

    def look(state):
        seen.append(("look", int(state.step)))
        return {"look_top1": 0.5}

    measurements = (
        Measurement(2, ("look_top1",), look),
        Measurement(2, ("tune_top1",), tune, trains=True),
        Measurement(3, ("rare",), lambda state: {"rare": 0.25}),
        Measurement(0, ("never",), look),
    )
    schedule = plan(12, steps_per_epoch=2, save_every=100)
    with pytest.raises(KeyboardInterrupt):
        train(schedule, measurements=measurements)
    train(schedule, measurements=measurements)
    assert seen == [(x, step) for step in (4, 8, 12) for x in ("look", "tune")]
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    about = {"stage": "pretrain", "variant": ""}
    expected = [
        about | {"step": step, "epoch": step / 2} | scores
        for step in (4, 6, 8, 12)
        for scores in (
            {"look_top1": 0.5},
            {"tune_top1": 0.75, "tune_top3": 1.0},
            {"rare": 0.25},
        )
        if step % (6 if "rare" in scores else 4) == 0
    ]
    assert [line for line in lines if "loss" not in line] == expected


def test_a_measurement_that_diverges_leaves_null_and_the_training_goes_on(
    train, tmp_path, capsys
):
    def measure(state):
        raise DivergedError("loss not finite since step 3")

    wanted = Measurement(1, ("tune_top1",), measure, doing="fine-tuning")
    for _ in range(2):  # and is not tried again
        state, _ = train(plan(3, steps_per_epoch=3), measurements=(wanted,))
        assert int(state.step) == 3
    error = capsys.readouterr().err
    said = "step 3: fine-tuning gave no tune_top1: loss not finite since step 3"
    assert error.count(said) == 1
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text.count('"tune_top1": null') == 1


def test_the_callers_arrays_survive_the_donated_step(train):
    start = {"w": jnp.ones(3)}
    state = {"count": jnp.zeros((), jnp.int32)}
    train(plan(2), init=lambda *args: args, init_args=(start, state))
    np.testing.assert_array_equal(start["w"], 1)


# Saving in the background ---------------------------------------------------------

HALVE = optax.sgd(0.5)  # from 0: w is TARGET (1 - 0.5^step), exactly


@pytest.fixture
def slow_disk(monkeypatch):
    """Every write takes as long as many steps."""
    write = orbax_arrays.write

    def write_late(*args):
        time.sleep(0.1)
        write(*args)

    monkeypatch.setattr(orbax_arrays, "write", write_late)


def saved(folder):
    """Step -> w of every checkpoint, and the seconds that `meta` gives it."""
    steps = checkpoint.steps(folder)
    found = [checkpoint.restore(folder, {"params": None}, step=x) for x in steps]
    return {step: (items["params"]["w"], meta) for step, items, meta in found}


def test_each_checkpoint_holds_its_own_step(train, tmp_path, slow_disk):
    """And is there when fit returns, with the seconds up to its step."""
    _, seconds = train(plan(20, save_every=5), HALVE)
    found = saved(tmp_path / "run/checkpoints")
    assert list(found) == [15, 20]
    for step, (w, _) in found.items():
        np.testing.assert_array_equal(w, TARGET * (1 - 0.5**step))
    assert found[15][1]["seconds"] < found[20][1]["seconds"]
    assert seconds > found[20][1]["seconds"] + 0.1  # the last write counts as well


def test_a_signal_while_a_save_is_under_way(train, tmp_path, slow_disk, monkeypatch):
    """That save is finished, then the newest state is saved."""

    def batches(start):
        for step in range(start, 20):
            if step == 7:
                monkeypatch.setattr(signals, "_received", [15])
            yield {"target": jnp.asarray(TARGET)}

    with pytest.raises(StoppedError):
        train(plan(20, save_every=5), HALVE, batches=batches)
    found = saved(tmp_path / "run/checkpoints")
    assert list(found) == [5, 8]
    np.testing.assert_array_equal(found[8][0], TARGET * (1 - 0.5**8))


def test_a_measurement_that_trains_waits_for_its_state_to_be_saved(
    train, tmp_path, slow_disk, monkeypatch
):
    """A kill must not undo a step whose long measurement is on record."""
    folder, found = tmp_path / "run/checkpoints", []

    def measure(state):
        found.append((int(state.step), checkpoint.steps(folder)[-1:]))
        return {"tune_top1": 0.5}

    wanted = Measurement(1, ("tune_top1",), measure, trains=True)
    train(plan(6, steps_per_epoch=3), HALVE, measurements=(wanted,))
    assert found == [(3, [3]), (6, [6])]
    # Nor does it begin if the save has failed.
    monkeypatch.setattr(orbax_arrays, "write", lambda *args: 1 / 0)
    late = plan(9, steps_per_epoch=3, save_every=100)
    with pytest.raises(OSError, match="cannot save checkpoint step 9"):
        train(late, HALVE, measurements=(wanted,))
    assert len(found) == 2


def test_divergence_keeps_the_save_that_is_under_way(train, tmp_path, slow_disk):
    def batches(start):
        for step in range(start, 100):
            yield {"target": jnp.asarray(TARGET * (np.nan if step >= 5 else 1))}

    with pytest.raises(DivergedError):
        train(plan(100, save_every=5, log_every=1), HALVE, batches=batches)
    w, _ = saved(tmp_path / "run/checkpoints")[5]
    np.testing.assert_array_equal(w, TARGET * (1 - 0.5**5))


@pytest.mark.parametrize("last, recorded", [(1000, range(5, 1000)), (5, [5])])
def test_a_failed_save_ends_the_training(train, tmp_path, monkeypatch, last, recorded):
    """Soon after, or at the end; a checkpoint that is there stays."""
    train(plan(3), HALVE)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(orbax_arrays, "write", fail)
    folder = tmp_path / "run/checkpoints"
    message = rf"^cannot save checkpoint step 5 .* in {folder}: No space left on dev"
    with pytest.raises(OSError, match=message):
        train(plan(last, save_every=5, log_every=1), HALVE)
    assert checkpoint.steps(folder) == [3]
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] in recorded
