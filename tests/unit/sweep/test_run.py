"""A sweep's processes: their logs, the terminal, signals, and the final error."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from sweeps import toy
from tiny import ROOT

from configs import common
from simclr_jax import signals
from simclr_jax.errors import FailedError
from simclr_jax.sweep import plan as sweep_plan
from simclr_jax.sweep import run as sweep

LIMIT = 100  # seconds that a busy machine may take


def python(script):
    return [sys.executable, "-u", "-c", script]


def wait_until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_output_is_shown_and_kept_as_it_was_written(tmp_path, capfd):
    """Standard output and error in one order, an earlier attempt's before them."""
    log = tmp_path / "row/seed_0/log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("an earlier attempt\n")
    script = """
import os, sys
os.write(1, b"one\\n")
os.write(2, "zw\\u00f6lf\\n".encode())
os.write(1, b"\\xff raw\\n\\n")
os.write(2, b"a bar\\ranother\\n  error: the end")
"""
    assert sweep.launch(python(script), log) == (0, "the end")
    shown = capfd.readouterr()
    lines = [
        "one",
        "zw\u00f6lf",
        "\ufffd raw",
        "",
        "a bar",
        "another",
        "  error: the end",
    ]
    assert shown.err.splitlines() == lines
    assert shown.out == ""
    assert log.read_bytes().startswith(b"an earlier attempt\none\nzw\xc3\xb6lf\n\xff")


def test_a_line_is_shown_while_the_process_runs(tmp_path, capfd):
    """It waits for a file that is made once its line has been seen."""
    script = f"""
import os, time
print("begun, and ", end="")
print("seen")
give_up = time.monotonic() + 2 * {LIMIT}
while not os.path.exists({str(tmp_path / "go")!r}) and time.monotonic() < give_up:
    time.sleep(0.01)
print("went on")
"""
    seen = []

    def watch():
        wait_until(lambda: seen.append(capfd.readouterr().err) or "seen" in seen[-1])
        (tmp_path / "go").touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert sweep.launch(python(script), tmp_path / "log.txt") == (0, "went on")
    watcher.join()
    assert "begun, and seen\n" in "".join(seen)
    assert "went on" not in "".join(seen)


@pytest.mark.parametrize(
    "script, code, last",
    [
        ("import sys; sys.exit('error: config.x: bad')", 1, "config.x: bad"),
        ("print('so far'); import os; os.kill(os.getpid(), 9)", -9, "so far"),
        ("raise SystemExit(3)", 3, ""),
    ],
)
def test_a_process_that_fails_leaves_its_code_and_last_line(
    tmp_path, script, code, last
):
    (tmp_path / "log.txt").write_text("error: of an earlier attempt\n")
    assert sweep.launch(python(script), tmp_path / "log.txt") == (code, last)


def test_a_folder_that_cannot_be_written_is_a_failure_like_others(tmp_path):
    (tmp_path / "file").touch()
    code, last = sweep.launch(python("pass"), tmp_path / "file/seed_0/log.txt")
    assert code == 1
    assert str(tmp_path / "file") in last


def test_a_signal_is_passed_on_once(tmp_path, monkeypatch):
    """SIGTERM twice would end a run that is saving."""
    script = f"""
import pathlib, signal, sys, time
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append("asked"))
pathlib.Path({str(tmp_path / "up")!r}).touch()
give_up = time.monotonic() + {LIMIT}
while not got and time.monotonic() < give_up:
    time.sleep(0.01)
time.sleep(1)
print(*got)
sys.exit(75)
"""
    monkeypatch.setattr(signals, "_received", [])

    def ask():
        wait_until((tmp_path / "up").exists)
        signals._received.append(signal.SIGINT)

    asker = threading.Thread(target=ask)
    asker.start()
    assert sweep.launch(python(script), tmp_path / "log.txt") == (75, "asked")
    asker.join()


def test_a_point_of_a_killed_sweep_saves_and_says_so(tmp_path):
    """Its parent is gone, and whatever read the parent's output too."""
    point = f"""
import os, pathlib, signal, time
from simclr_jax import signals
signals.catch_signals()
signals.stop_with(int(os.environ["SIMCLR_JAX_SWEEP_PID"]))
pathlib.Path({str(tmp_path / "up")!r}).touch()
give_up = time.monotonic() + {LIMIT}
while not signals.stop_requested() and time.monotonic() < give_up:
    time.sleep(0.01)
print("x" * 100_000)
print("saved")
pathlib.Path({str(tmp_path / "saved")!r}).touch()
"""
    parent = f"""
import pathlib
from simclr_jax.sweep import run
run.launch([{sys.executable!r}, "-u", "-c", {point!r}],
           pathlib.Path({str(tmp_path / "log.txt")!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stderr=subprocess.PIPE
    )
    wait_until(lambda: (tmp_path / "up").exists() or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until((tmp_path / "saved").exists)
    log = (tmp_path / "log.txt").read_text()
    assert "SIGTERM: saving, then stopping" in log
    assert log.endswith(f"{'x' * 100_000}\nsaved\n")


# All points


@pytest.fixture
def points(tmp_path):
    return sweep_plan.points(toy(), common.get_config(), [0, 1], tmp_path)


def test_failures_are_told_together(tmp_path, points, monkeypatch):
    """Every point is tried, whatever the one before it did."""
    codes = iter([(0, ""), (1, "disk full"), (-9, ""), (0, "")])
    logs = []

    def pretend(command, log):
        assert command[-1] == f"--index={len(logs)}"
        logs.append(log)
        return next(codes)

    monkeypatch.setattr(sweep, "launch", pretend)
    with pytest.raises(
        FailedError, match=r"2 of 4 failed: two seed 0 \(exit 1: disk f"
    ) as raised:
        sweep.run(toy(), points, tmp_path, ["launch.py", "--sweep"])
    assert next(codes, None) is None
    assert logs == [point.path / "log.txt" for point in points]
    assert str(raised.value).endswith(
        f"; one seed 1 (exit -9: ); see {tmp_path}/two/seed_0/log.txt, "
        f"{tmp_path}/one/seed_1/log.txt"
    )


@pytest.mark.parametrize(
    "script, starts",
    [
        ("launch.py", [sys.executable, "launch.py"]),
        ("/env/bin/simclr-jax", [sys.executable, "/env/bin/simclr-jax"]),
        ("/env/simclr_jax/__main__.py", [sys.executable, "-m", "simclr_jax"]),
    ],
)
def test_a_point_runs_as_the_sweep_was_started(
    tmp_path, points, monkeypatch, script, starts
):
    """As a script, __main__.py would put the package's own folder on Python's path."""
    commands = []

    def pretend(command, log):
        commands.append(command)
        return 1, "enough"

    monkeypatch.setattr(sweep, "launch", pretend)
    with pytest.raises(FailedError):
        sweep.run(toy(), points, tmp_path, [script, "--sweep"])
    assert commands[1] == [*starts, "--sweep", "--index=1"]


def test_many_failures_are_told_by_name_only(tmp_path, points, monkeypatch):
    monkeypatch.setattr(sweep, "launch", lambda command, log: (3, "not finite"))
    with pytest.raises(FailedError) as raised:
        sweep.run(toy(), points, tmp_path, ["launch.py", "--sweep"])
    assert str(raised.value) == (
        "4 of 4 failed: one seed 0 (exit 3); two seed 0 (exit 3); one seed 1 (exit 3); "
        "two seed 1 (exit 3); see log.txt in the folder of each"
    )
