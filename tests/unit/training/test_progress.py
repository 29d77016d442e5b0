"""Rates, time left and the printed line of a training; each test sets the clock."""

import io

import pytest

from simclr_jax.training import progress
from simclr_jax.training.progress import Progress, duration
from simclr_jax.training.terminal import about


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def start(monkeypatch, terminal=False, **changes) -> tuple[Progress, Screen]:
    screen = Screen(terminal)
    monkeypatch.setattr(progress.sys, "stderr", screen)
    fields = {"start": 0, "end": 100, "steps_per_epoch": 10, "batch_size": 32}
    return Progress("pretrain", **({"seconds": 0.0} | fields | changes)), screen


def test_rates_leave_out_compilation_and_pauses(clock, monkeypatch):
    shown, _ = start(monkeypatch)
    clock.now += 50  # compiling, step 1
    shown.compiled()
    clock.now += 4  # steps 2 to 5
    first = shown.advance(5, 1.0)
    assert first == {"images_per_second": 32.0, "seconds": 54.0}  # 4 steps in 4 s
    clock.now += 2
    with shown.paused("evaluating"):
        clock.now += 30
    clock.now += 2
    # 8 steps in 4 s; the pause is in the seconds that passed.
    assert shown.advance(13, 1.0) == {"images_per_second": 64.0, "seconds": 88.0}


def test_a_training_within_another_is_not_part_of_its_seconds(clock, monkeypatch):
    shown, _ = start(monkeypatch)
    shown.compiled()
    clock.now += 2
    with shown.paused("fine-tuning", apart=True):
        clock.now += 300
    clock.now += 2
    with shown.paused("saving"):
        clock.now += 1
    # 4 steps in 4 s.
    assert shown.advance(5, 1.0) == {"images_per_second": 32.0, "seconds": 5.0}


def test_a_pause_counts_even_if_it_fails(clock, monkeypatch):
    shown, _ = start(monkeypatch)
    shown.compiled()
    clock.now += 1
    saving = shown.paused("saving")
    saving.__enter__()
    clock.now += 9
    assert not saving.__exit__(KeyError, KeyError(), None)
    assert shown.advance(3, 1.0)["images_per_second"] == 64.0  # 2 steps in 1 s


def test_there_is_no_rate_without_a_step_after_compilation(clock, monkeypatch):
    shown, _ = start(monkeypatch)
    clock.now += 5
    shown.compiled()
    assert shown.advance(1, 1.0) == {"seconds": 5.0}


def test_seconds_go_on_from_earlier_processes(clock, monkeypatch):
    shown, _ = start(monkeypatch, start=40, seconds=70.0)
    clock.now += 5
    shown.compiled()
    clock.now += 1
    assert shown.advance(42, 1.0) == {"images_per_second": 32.0, "seconds": 76.0}
    assert shown.seconds() == 76.0


def test_the_line_tells_step_epoch_loss_rate_and_time_left(clock, monkeypatch):
    shown, screen = start(monkeypatch)
    clock.now += 20
    shown.compiled()
    clock.now += 8
    shown.advance(5, 1.23456)  # 4 steps of 2 s: 95 more take 190 s
    assert screen.getvalue().splitlines() == [
        "pretrain: compiling ...",
        "pretrain  step 5/100  epoch 0.5/10  loss 1.2346  16 images/s  ETA 3:10",
    ]


def test_the_time_left_is_by_all_steps_since_compilation(clock, monkeypatch):
    shown, screen = start(monkeypatch)
    shown.compiled()
    clock.now += 10
    shown.advance(11, 1.0)  # 10 steps in 10 s
    clock.now += 50
    shown.advance(21, 1.0)  # 20 in 60 s: 79 more take 237 s
    assert screen.getvalue().splitlines()[-1].endswith("6 images/s  ETA 3:57")


def test_a_file_gets_a_line_every_ten_seconds_and_the_last(clock, monkeypatch):
    shown, screen = start(monkeypatch, end=30)
    shown.compiled()
    for step in range(2, 31):
        clock.now += 1
        shown.advance(step, 1.0)
    shown.close()
    lines = screen.getvalue().splitlines()[1:]
    assert [line.split()[2] for line in lines] == ["2/30", "12/30", "22/30", "30/30"]
    assert lines[-1].endswith("  in 0:29")
    assert "\r" not in screen.getvalue()


def test_a_terminal_line_is_drawn_again_at_every_record(clock, monkeypatch):
    shown, screen = start(monkeypatch, terminal=True)
    shown.compiled()
    for step in (2, 3):
        clock.now += 1
        shown.advance(step, 1.0)
    with shown.paused("saving"):
        pass
    shown.close()
    drawn = screen.getvalue().split("\r\033[K")
    assert drawn[0] == ""
    assert [text.split("  ")[0] for text in drawn[1:]] == [
        "pretrain: compiling ...",
        "pretrain",
        "pretrain",
        "pretrain: saving ...\n",  # the line is ended once
    ]


@pytest.mark.parametrize(
    "terminal, begin, said",
    [(True, 40, True), (True, 0, False), (False, 40, False)],  # a file: as ever
)
def test_a_terminal_is_told_where_it_goes_on(monkeypatch, terminal, begin, said):
    _, screen = start(monkeypatch, terminal=terminal, start=begin)
    lines = screen.getvalue().replace("\r\033[K", "").splitlines()
    assert ("pretrain: continuing from step 40" in lines) == said
    assert lines[-1] == "pretrain: compiling ..."


@pytest.mark.parametrize("terminal", [False, True])
def test_the_whole_time_is_said_once(clock, monkeypatch, terminal):
    shown, screen = start(monkeypatch, terminal, end=1000, foretell="; knn not counted")
    clock.now += 30  # compiling, step 1
    shown.compiled()
    for step in (3, 6, 9):  # 2 s each; the first 4 s are too few to judge by
        clock.now += 2 * 3 - 2 * (step == 3)
        shown.advance(step, 1.0)
    # At step 6: 30 s, 10 s for 5 steps, and 994 more of 2 s: 33.8 minutes.
    before = "\r\033[K" if terminal else "\n"
    line = f"{before}pretrain takes about 34 minutes in all; knn not counted\n"
    assert screen.getvalue().count(line) == screen.getvalue().count("in all") == 1


def test_the_whole_time_includes_earlier_processes(clock, monkeypatch):
    shown, screen = start(monkeypatch, start=50, seconds=600.0, foretell="")
    shown.compiled()
    clock.now += 9
    shown.advance(52, 1.0)  # 48 more steps of 9 s
    assert "takes about 17 minutes in all\n" in screen.getvalue()  # 600 + 9 + 432 s


@pytest.mark.parametrize(
    "changes",
    [{"foretell": None}, {"foretell": "", "end": 10}, {"foretell": "", "silent": True}],
    ids=["not asked", "soon over", "silent"],
)
def test_the_whole_time_is_not_said(clock, monkeypatch, changes):
    shown, screen = start(monkeypatch, **changes)
    shown.compiled()
    for step in (2, 5, 8):
        clock.now += 6
        shown.advance(step, 1.0)
    assert "in all" not in screen.getvalue()


@pytest.mark.parametrize("terminal, patience", [(False, 10), (True, 1)])
def test_slow_steps_are_shown_between_records(clock, monkeypatch, terminal, patience):
    # A record every 50 steps of 4 s, or of 0.4 s, would be silent for so long.
    shown, screen = start(monkeypatch, terminal, foretell="", end=1000)
    clock.now += 30  # compiling, step 1
    shown.compiled()
    fetched = []
    for step in range(2, 8):
        clock.now += 0.4 * patience
        shown.passed(step, lambda step=step: fetched.append(step) or 2.5)
    # 1.2 periods after compilation, then after the line at step 4.
    assert fetched == [4, 7]
    text = screen.getvalue()
    if terminal:  # beside its bar
        assert "step 4/1000  loss 2.5000  ETA 6:38" in text
    else:
        assert (
            "step 4/1000  epoch 0.4/100  loss 2.5000  8 images/s  ETA 1:06:24" in text
        )
    # The estimate does not wait for a record either: 30 s, 999 steps of 4 or 0.4 s.
    assert text.count("in all") == (patience == 10)
    assert ("takes about 67 minutes in all" in text) == (patience == 10)
    # A record counts from the record before, and a step that it showed is over.
    clock.now += 1
    shown.advance(8, 1.0)
    clock.now += 60
    shown.passed(8, lambda: fetched.append(8) or 0.0)
    assert fetched == [4, 7]


def test_fast_steps_add_no_lines(clock, monkeypatch):
    shown, screen = start(monkeypatch, end=60)
    shown.compiled()
    for step in range(2, 61):
        clock.now += 1
        shown.passed(step - 1, lambda: 1.0)
        if step % 5 == 0:
            shown.advance(step, 1.0)
    # 59 seconds of steps: the first record, one for every ten seconds, the end.
    lines = screen.getvalue().splitlines()[1:]
    assert len(lines) == 1 + 5 + 1
    assert lines[-1].startswith("pretrain  step 60/60 ")


@pytest.mark.parametrize("terminal, before", [(False, ""), (True, "\r\033[K")])
def test_a_warning_has_a_line_of_its_own(clock, monkeypatch, terminal, before):
    shown, screen = start(monkeypatch, terminal=terminal)
    shown.warn("step 5: low")
    assert screen.getvalue().endswith(f"{before}warning: pretrain step 5: low\n")


@pytest.mark.parametrize("terminal", [False, True])
def test_silence(clock, monkeypatch, terminal):
    shown, screen = start(monkeypatch, terminal=terminal, silent=True)
    shown.compiled()
    clock.now += 10
    assert shown.advance(100, 1.0)["images_per_second"] == 316.8  # 99 steps
    shown.close()
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (75, "1:15"), (3675, "1:01:15"), (59.6, "1:00")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (65, "1 minute"),
        (1500, "25 minutes"),
        (5400, "90 minutes"),
        (6000, "1.7 hours"),
        (7200, "2 hours"),
        (86400, "24 hours"),
        (216000, "2.5 days"),
    ],
)
def test_about(seconds, text):
    assert about(seconds) == text


def test_a_part_of_an_epoch_is_no_zero(clock, monkeypatch):
    """As with `max_steps`: the end showed as epoch 0.5/0."""
    shown, screen = start(monkeypatch, end=5)
    clock.now += 1
    shown.compiled()
    clock.now += 1
    shown.advance(5, 1.0)
    assert "epoch 0.5/0.5 " in screen.getvalue()
