"""Many runs of one recipe, one table: `launch.py --sweep`.

Each point (one row with one seed, see plan.py) runs in a launch.py of its own, so that
a point that fails, diverges or runs out of memory does not end the others. Its output
goes to log.txt in its folder, and from there to the terminal. A finished point does not
run again; an interrupted one continues.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from simclr_jax.config.command_line import Request
from simclr_jax.errors import FailedError, RequestError, refused
from simclr_jax.signals import check_stop, stop_requested, stop_with
from simclr_jax.sweep import plan, recipe
from simclr_jax.sweep.plan import Point
from simclr_jax.sweep.recipe import Sweep
from simclr_jax.sweep.results import collect, results
from simclr_jax.training.progress import duration

# Tells a point's process the id of the sweep's process; it ends when that one does.
_PARENT = "SIMCLR_JAX_SWEEP_PID"
# Seconds for a point of a sweep that was killed to take its last step and save.
_PATIENCE = 120.0
_POLL = 0.2  # seconds between two looks at a point's process and its log
_MOST_EXPLAINED = 3  # the final error explains no more failed points than this


def run(
    sweep: Sweep, points: Sequence[Point], workdir: str | os.PathLike, argv: list[str]
) -> None:
    """Runs every point that is not finished, then prints and writes the table.

    Args:
      points: all points of the sweep, checked.
      argv: the command line; with `--index=i` added it runs one point.

    Raises:
      FailedError: a point failed; the others have run all the same.
      StoppedError: a signal asked to stop; the running point has saved its state.
    """
    waiting = [i for i, point in enumerate(points) if results(point) is None]
    _say(f"{len(points)} points, {len(points) - len(waiting)} of them finished")
    failed: list[tuple[Point, int, str]] = []
    begin = time.monotonic()
    for count, index in enumerate(waiting):
        check_stop()
        point, started = points[index], time.monotonic()
        place = f"{index + 1}/{len(points)}: {point}"
        _say(f"{place}{_eta(begin, count, len(waiting))}")
        _wait_for(point)
        command = [*_interpreter(argv), *argv[1:], f"--index={index}"]
        code, last = launch(command, _log(point))
        check_stop()
        took = duration(time.monotonic() - started)
        if code:
            failed.append((point, code, last))
            _say(f"{place} FAILED after {took}: {last}")
        else:
            _say(f"{place} in {took}")
        collect(sweep, points, workdir)  # so that the table grows as results come
    print(collect(sweep, points, workdir))
    print(f"report: {Path(workdir).expanduser() / 'report.html'}")
    if failed:
        raise FailedError(_failures(failed, len(points)))


def _interpreter(argv: list[str]) -> list[str]:
    """What starts this program once more. `argv[0]` is a script or our __main__.py."""
    if Path(argv[0]).name == "__main__.py":  # as a script it would be on Python's path
        return [sys.executable, "-m", "simclr_jax"]
    return [sys.executable, argv[0]]


def run_one(points: Sequence[Point], index: int) -> None:
    """Runs one point in this process, unless it is finished."""
    point, parent = points[index], os.environ.get(_PARENT)
    name = f"point {index} of 0 to {len(points) - 1}: {point}"
    if results(point) is not None:  # whether or not its checkpoints are there
        _say(f"{name} is finished, see {point.path / 'results.json'}")
        return
    if parent:
        stop_with(int(parent))
    else:
        _say(name)
    from simclr_jax.stages import run as stages

    stages.run(point.config, str(point.path))


def _failures(failed: Sequence[tuple[Point, int, str]], total: int) -> str:
    """The final error: each failed point, why it failed, and where to read more."""
    if len(failed) <= _MOST_EXPLAINED:
        names = [f"{point} (exit {code}: {last})" for point, code, last in failed]
        logs = ", ".join(str(_log(point)) for point, *_ in failed)
    else:
        names = [f"{point} (exit {code})" for point, code, _ in failed]
        logs = "log.txt in the folder of each"
    return f"{len(failed)} of {total} failed: {'; '.join(names)}; see {logs}"


def _log(point: Point) -> Path:
    return point.path / "log.txt"


def _say(text: str) -> None:
    print(f"sweep: {text}", file=sys.stderr, flush=True)


def _eta(begin: float, done: int, total: int) -> str:
    if not done:
        return ""
    each = (time.monotonic() - begin) / done
    return f"; {duration(each)} a point, ETA {duration(each * (total - done))}"


# A point's process --------------------------------------------------------------


def launch(command: list[str], log: Path) -> tuple[int, str]:
    """Runs a process that appends its output to `log`; shows the output as it comes.

    If a signal asks this process to stop, it asks the other one too, and waits for it.

    Returns:
      `(exit code, last line of the output)`; the code is negative, as for
      `subprocess`, if a signal ended the process.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        return 1, str(error)
    with log.open("ab") as output, log.open("rb") as reader:
        tail = _Tail(reader)
        process = subprocess.Popen(
            command,
            # Not a pipe: a file takes output even after this process was killed.
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {_PARENT: str(os.getpid())},
            # So that Ctrl-C reaches only this process, which passes it on once.
            start_new_session=True,
        )
        asked = False
        while (code := _exit_code(process)) is None:
            tail.show()
            if stop_requested() and not asked:
                process.send_signal(signal.SIGTERM)
                asked = True
        tail.show(to_the_end=True)
    return code, tail.last.removeprefix("error: ")


def _exit_code(process: subprocess.Popen) -> int | None:
    """Waits a moment for the process to end; None while it runs."""
    try:
        return process.wait(timeout=_POLL)
    except subprocess.TimeoutExpired:
        return None


class _Tail:
    """Copies whole lines to the terminal as they are added to a file from now on.

    Attributes:
      last: the last line that was not blank.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._unfinished, self.last = file, b"", ""
        file.seek(0, os.SEEK_END)

    def show(self, *, to_the_end: bool = False) -> None:
        """Shows what is new; an unfinished last line only with `to_the_end`."""
        text = self._unfinished + self._file.read()
        *lines, self._unfinished = re.split(rb"\r?\n|\r", text)
        if to_the_end and self._unfinished:
            lines.append(self._unfinished)
        for line in (line.decode(errors="replace") for line in lines):
            print(line, file=sys.stderr, flush=True)
            self.last = line.strip() or self.last


def _wait_for(point: Point) -> None:
    """Waits up to `_PATIENCE` seconds until no other process runs in the folder."""
    lock = point.path / ".lock"
    deadline = time.monotonic() + _PATIENCE
    said = False
    while lock.exists() and time.monotonic() < deadline:
        check_stop()
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if not said:
                    _say(f"another run is using {point.path}; waiting for it")
                    said = True
        time.sleep(0.5)


def run_request(request: Request, argv: list[str]) -> None:
    """Checks all points of the recipe's sweep, then runs or collects them.

    Args:
      request: the parsed command line, which has `--sweep`.
      argv: the command line itself, with the script's path first.

    Raises:
      RequestError: the recipe's sweep, one of its points or `--index` is wrong.
      FailedError, StoppedError: as `run`.
    """
    if why := refused(request.workdir):
        raise RequestError(f"--workdir: can't use {request.workdir}: {why}")
    sweep = recipe.load(request.recipe)
    seeds = plan.seeds_of(request.seeds)
    points = plan.points(sweep, request.config, seeds, request.workdir)
    if request.index is not None and not 0 <= request.index < len(points):
        raise RequestError(
            f"--index: {request.index} is not one of the {len(points)} points, "
            f"numbered 0 to {len(points) - 1}: the {len(sweep.rows)} rows with the "
            "first seed, then with the next"
        )
    plan.check(sweep, points, argv[1:], to_run=not request.table)
    if request.table:
        print(collect(sweep, points, request.workdir))
    elif request.index is None:
        run(sweep, points, request.workdir, argv)
    else:
        run_one(points, request.index)
