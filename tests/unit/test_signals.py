"""SIGTERM and SIGINT as a request to stop, and a parent that dies."""

import io
import os
import signal
import threading

import pytest

from simclr_jax import signals
from simclr_jax.errors import StoppedError


@pytest.fixture
def caught(monkeypatch):
    """catch_signals() has run; afterwards the test's own handlers are back."""
    monkeypatch.setattr(signals, "_received", [])
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    signals.catch_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_that_check_stop_raises(caught, capsys, number):
    signals.check_stop()
    assert not signals.stop_requested()
    signal.raise_signal(number)
    assert signals.stop_requested()
    with pytest.raises(StoppedError, match="run the same command again to continue"):
        signals.check_stop()
    assert f"{number.name}: saving, then stopping" in capsys.readouterr().err


def test_a_second_signal_ends_the_process_at_once(caught, capsys):
    signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    # The other one still asks.
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL


def test_a_signal_during_a_print_is_still_a_request(caught, monkeypatch):
    """Python rejects a print within a print to the same file."""

    class File(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data, /):
            if not signals.stop_requested():
                signal.raise_signal(signal.SIGTERM)
            return len(data)

    stream = io.TextIOWrapper(io.BufferedWriter(File()), line_buffering=True)
    monkeypatch.setattr("sys.stderr", stream)
    print("step 1", file=stream)
    assert signals.stop_requested()


@pytest.fixture
def watch(monkeypatch):
    """stop_with() with parents that the test names; what it sent, once it has ended."""

    def watch(parent: int, parents: list[int]) -> tuple[list, list]:
        sent, slept, left = [], [], iter(parents)
        monkeypatch.setattr(signals.os, "getppid", lambda: next(left))
        monkeypatch.setattr(signals.os, "kill", lambda *what: sent.append(what))
        monkeypatch.setattr(signals.time, "sleep", slept.append)
        before = set(threading.enumerate())
        signals.stop_with(parent)
        for thread in set(threading.enumerate()) - before:
            assert thread.daemon  # it must not keep a finished process alive
            thread.join()
        return sent, slept

    return watch


def test_the_end_of_the_parent_is_a_sigterm(watch):
    sent, slept = watch(7, [7, 7, 7, 1])
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert len(slept) == 3


def test_a_parent_that_is_gone_already_is_noticed(watch):
    assert watch(7, [1]) == ([(os.getpid(), signal.SIGTERM)], [])
