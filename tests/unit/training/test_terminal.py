"""The line that a run draws again and again: it never wraps, and leaves nothing."""

import fcntl
import io
import os
import pty
import re
import struct
import termios

import pytest

from simclr_jax.training import terminal


class Screen(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Stands in for the module `time`; each look at it takes half a second."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        self.now += 0.5
        return self.now


def look(monkeypatch):
    """In the test itself: pytest sets stderr again between a fixture and its test."""
    screen = Screen()
    monkeypatch.setattr(terminal.sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    return screen


def rows(screen: Screen) -> list[str]:
    """What each drawing shows, without colours."""
    plain = re.sub(r"\033\[[0-9;]*m", "", screen.getvalue())
    first, *drawn = plain.split(terminal.CLEAR)
    assert first == ""
    return drawn


def test_a_bar_shows_the_share_that_is_done(monkeypatch):
    screen = look(monkeypatch)
    terminal.draw("pretrain", "step 1/4", 0.25)
    terminal.draw("pretrain", "step 4/4", 1.0)
    quarter, whole = rows(screen)
    for row in (quarter, whole):
        assert re.fullmatch(r"pretrain  [━╸╺]{30}  step \d/4", row), row
    bars = [x for x in re.findall(r"\033\[[\d;]*m(━+)", screen.getvalue())]
    assert max(map(len, bars)) == 30


@pytest.mark.parametrize("columns, wide", [(80, True), (40, False), (12, False)])
def test_no_line_is_wider_than_the_terminal(monkeypatch, columns, wide):
    screen = look(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal.draw("pretrain", "step 1/4  loss 4.1234  ETA 0:10", 0.5)
    (row,) = rows(screen)
    assert len(row) < columns
    assert ("━" in row) == wide


def test_a_long_text_gives_way_to_a_short_one_with_a_bar(monkeypatch):
    screen = look(monkeypatch)
    terminal.draw("pretrain", 75 * "x", 0.5, short="step 1/2  ETA 0:10")
    terminal.draw("pretrain", 40 * "x", 0.5, short="step 1/2  ETA 0:10")
    narrow, wide = rows(screen)
    assert re.fullmatch(r"pretrain  [━╸╺]{30}  step 1/2  ETA 0:10", narrow)
    assert re.fullmatch(r"pretrain  [━╸╺]{27}  x{40}", wide)


def test_the_width_is_that_of_stderr_where_the_shell_says_none(monkeypatch):
    look(monkeypatch)
    monkeypatch.delenv("COLUMNS")
    assert terminal._columns() == 80  # this screen has no file descriptor
    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", 40, 123, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    with open(theirs, "w") as stream:
        monkeypatch.setattr(terminal.sys, "stderr", stream)
        assert terminal._columns() == 123
    os.close(ours)


def test_no_bar_without_rich(monkeypatch):
    screen = look(monkeypatch)
    monkeypatch.setitem(terminal.sys.modules, "rich.console", None)
    terminal.draw("pretrain", "step 1/4", 0.25)
    assert rows(screen) == ["pretrain  step 1/4"]


def test_a_phase_draws_after_two_seconds_what_is_left(monkeypatch):
    screen = look(monkeypatch)
    monkeypatch.setattr(terminal, "time", Clock())
    assert list(terminal.counted("features", range(8), 8)) == list(range(8))
    drawn = [re.sub(" *[━╸╺]+ *", " ", row) for row in rows(screen)]
    # Looks come each 0.5 s. The fourth, 2 s after the start, is the first that is not
    # too early: 3 items took 2 s, so 5 more take 3.3 s.
    assert drawn == [
        "features 3/8  ETA 0:03",
        "features 4/8  ETA 0:02",
        "features 5/8  ETA 0:02",
        "features 6/8  ETA 0:01",
        "features 7/8  ETA 0:01",
    ]


def test_what_is_done_is_shown_meanwhile_and_then_gone(monkeypatch):
    screen = look(monkeypatch)
    with pytest.raises(KeyError), terminal.working("report"):
        raise KeyError
    assert rows(screen) == ["report ...", ""]


def test_where_nobody_looks_nothing_is_drawn(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(terminal.sys, "stderr", file)
    monkeypatch.setattr(terminal, "time", Clock())
    with terminal.working("report"):
        assert list(terminal.counted("features", range(8), 8)) == list(range(8))
    assert file.getvalue() == ""
