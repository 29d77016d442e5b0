"""A service gets each number once, whatever is repeated."""

import json
import math

import pytest

from simclr_jax.experiment.loggers import Run, once
from simclr_jax.experiment.loggers.once import Once


class Ledger:
    """A service that takes nothing back: what it got stays in `got`."""

    def __init__(self):
        self.got, self.runs, self.summaries, self.said = [], [], [], []
        self.fails, self.unsent = False, ""

    def start(self, run):
        self.runs.append(run)
        self.id, self.where = run.id or "first", "there"
        return self

    def describe(self, fields):
        if self.fails:
            raise ConnectionError("no network")

    def write(self, name, step, values):
        if self.fails:
            raise ConnectionError("no network")
        self.got += [(name, step, tag, value) for tag, value in values.items()]

    def summary(self, values, step):
        self.summaries.append((values, step))

    def close(self, ended):
        self.got.append(ended)


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def again(ledger, tmp_path):
    """`lines of metrics.jsonl -> Once`, of another run on the same workdir."""

    def run(lines=(), trainings=()):
        made = Run("run", str(tmp_path), {}, None, 0)
        file = tmp_path / "ledger.json"
        once = Once(ledger.start, made, file, lambda its: ledger.said.append(its.where))
        once.begin(list(lines), dict(trainings))
        return once

    return run


def line(step, stage="pretrain", variant="", **values):
    return {"stage": stage, "variant": variant, "step": step, **values}


def test_a_resumed_run_has_each_step_once(ledger, again):
    once = again()
    for step in (10, 20, 30):
        once.write("pretrain", step, {"loss": float(step)})
    # Killed after step 30; the newest checkpoint is of step 10.
    once = again([line(step, loss=float(step)) for step in (10, 20, 30)])
    once.cut("pretrain", 10, 1)
    for step in (20, 30, 40):
        once.write("pretrain", step, {"loss": float(step)})
    assert [(step, value) for _, step, _, value in ledger.got] == [
        (10, 10.0),
        (20, 20.0),
        (30, 30.0),
        (40, 40.0),
    ]
    assert [(run.id, run.lines) for run in ledger.runs] == [(None, 0), ("first", 3)]


def test_two_lines_of_a_step_are_two_things(ledger, again):
    """A measurement has a line of its own, after that of the loss."""
    once = again()
    once.write("pretrain", 10, {"loss": 1.0, "epoch": 1.0})
    once.write("pretrain", 10, {"knn_top1": 0.5, "epoch": 1.0})
    assert [tag for _, _, tag, _ in ledger.got] == ["loss", "epoch", "knn_top1"]


def test_a_new_logger_gets_what_was_recorded_before(ledger, again):
    once = again([line(5, loss=1.0), line(3, "probe", "pretrained", loss=2.0)])
    once.write("pretrain", 10, {"loss": 0.5})
    assert ledger.got == [
        ("pretrain", 5, "loss", 1.0),
        ("probe/pretrained", 3, "loss", 2.0),
        ("pretrain", 10, "loss", 0.5),
    ]


def test_what_failed_is_sent_by_the_next_run(ledger, again):
    once = again()
    once.write("pretrain", 10, {"loss": 1.0})
    ledger.fails = True
    with pytest.raises(ConnectionError):
        once.write("pretrain", 20, {"loss": 2.0})
    ledger.fails = False
    again([line(10, loss=1.0), line(20, loss=2.0), line(30, loss=3.0)])
    assert [step for _, step, _, _ in ledger.got] == [10, 20, 30]


def test_a_failure_in_the_lines_before_keeps_what_was_sent(ledger, again, tmp_path):
    lines = [line(10, loss=1.0), line(20, loss=2.0)]
    write = ledger.write

    def once_only(name, step, values):
        ledger.fails = step == 20
        write(name, step, values)

    ledger.write = once_only
    with pytest.raises(ConnectionError):
        again(lines)
    ledger.write = write
    ledger.fails = False
    again(lines)
    assert [step for _, step, _, _ in ledger.got] == [10, 20]


def test_a_training_that_begins_anew_is_another_one(ledger, again):
    """As a probe of a later pretraining step: its steps begin at 1 again."""
    name = "probe/pretrained"
    once = again()
    once.write(name, 1, {"loss": 1.0})
    once.cut(name, -1, 2)
    once.cut(name, 0, 2)
    once.write(name, 1, {"loss": 2.0})
    once = again([line(1, "probe", "pretrained", loss=2.0)], {name: 2})
    once.write(name, 2, {"loss": 3.0})
    assert ledger.got == [
        ("probe/pretrained", 1, "loss", 1.0),
        ("probe/pretrained-2", 1, "loss", 2.0),
        ("probe/pretrained-2", 2, "loss", 3.0),
    ]


def test_only_finite_numbers_are_sent(ledger, again):
    once = again([line(1, loss=None)])
    once.write("pretrain", 2, {"loss": math.nan, "lr": math.inf, "name": "x", "n": 3})
    assert ledger.got == [("pretrain", 2, "n", 3)]


def test_nothing_to_say_begins_no_run(ledger, again):
    again().write("pretrain", 1, {"loss": 1.0})
    once = again([line(1, loss=1.0)])
    once.close("finished")
    assert len(ledger.runs) == 1
    assert ledger.said == ["there"]


def test_the_table_is_sent_when_it_has_changed(ledger, again):
    again().summary({"knn/top1": 0.5}, 10)
    again().summary({"knn/top1": 0.5}, 10)
    once = again()
    once.summary({"knn/top1": 0.75}, 20)
    once.close("stopped")
    assert ledger.summaries == [({"knn/top1": 0.5}, 10), ({"knn/top1": 0.75}, 20)]
    assert ledger.got == ["stopped"]


def test_a_kill_in_the_lines_before_loses_little(ledger, again, tmp_path, monkeypatch):
    """What was sent is saved meanwhile: SIGKILL runs no `finally`."""
    monkeypatch.setattr(once, "_SAVE_SECONDS", 0)
    write, saved = ledger.write, []

    def looking(name, step, values):
        saved.append(json.loads((tmp_path / "ledger.json").read_text())["sent"])
        write(name, step, values)

    ledger.write = looking
    again([line(step, loss=1.0) for step in (10, 20, 30)])
    assert saved == [{}, {"pretrain/loss": 10}, {"pretrain/loss": 20}]


def test_a_run_whose_recipe_did_not_get_there_is_no_second_one(ledger, again):
    ledger.fails = True
    with pytest.raises(ConnectionError):
        again([line(10, loss=1.0)])
    ledger.fails = False
    again([line(10, loss=1.0)])
    assert [run.id for run in ledger.runs] == [None, "first"]
    assert [step for _, step, _, _ in ledger.got] == [10]


def test_the_process_of_a_killed_run_leaves_a_new_experiment_alone(
    ledger, again, tmp_path
):
    """The workdir has begun anew while it still sends."""
    killed = again()
    killed.write("pretrain", 10, {"loss": 1.0})
    (tmp_path / "ledger.json").unlink()
    killed.write("pretrain", 20, {"loss": 1.0})
    again().write("pretrain", 10, {"loss": 2.0})
    assert [run.id for run in ledger.runs] == [None, None]
    assert [value for *_, value in ledger.got] == [1.0, 1.0, 2.0]
