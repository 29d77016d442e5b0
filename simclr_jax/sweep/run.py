"""Many runs of one recipe, one table: `launch.py --sweep`.

Each point (a row with a seed, see plan.py) is run by a launch.py of its own, so
that one that fails, diverges or runs out of memory takes nothing with it. What is
finished is not run again, what was interrupted continues.
"""

import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simclr_jax.config.command_line import Request
from simclr_jax.errors import FailedError, RequestError
from simclr_jax.signals import check_stop, stop_requested, stop_with
from simclr_jax.sweep import plan
from simclr_jax.sweep.plan import Point, Sweep
from simclr_jax.sweep.results import collect, results
from simclr_jax.training.progress import duration

# Tells a point's process which sweep it belongs to, and ends with.
_PARENT = "SIMCLR_JAX_SWEEP_PID"
# An earlier sweep that was killed takes its last step and saves: seconds.
_PATIENCE = 120.0
_MOST_EXPLAINED = 3  # failed points whose last line the final error repeats


def run(
    sweep: Sweep, found: Sequence[Point], workdir: str | os.PathLike, argv: list[str]
) -> None:
    """Runs every point that is not finished, then prints and writes the table.

    Args:
      found: all points, checked.
      argv: the command line, which with `--index=i` runs one point.

    Raises:
      FailedError: a point failed; the others have been run all the same.
      StoppedError: a signal asked for it; the running point has saved its state.
    """
    waiting = [i for i, point in enumerate(found) if results(point) is None]
    _say(f"{len(found)} points, {len(found) - len(waiting)} of them finished")
    failed, begin = [], time.monotonic()
    for count, index in enumerate(waiting):
        check_stop()
        point, started = found[index], time.monotonic()
        _say(f"{index + 1}/{len(found)}: {point}{_eta(begin, count, len(waiting))}")
        _wait_for(point)
        code, last = _launch([sys.executable, *argv, f"--index={index}"])
        check_stop()
        took = duration(time.monotonic() - started)
        if code:
            failed.append((f"{point} (exit {code}", f": {last})"))
            _say(f"{index + 1}/{len(found)}: {point} FAILED after {took}: {last}")
        else:
            _say(f"{index + 1}/{len(found)}: {point} in {took}")
        collect(sweep, found, workdir)  # so that the table grows as results come
    print(collect(sweep, found, workdir))
    print(f"report: {Path(workdir).expanduser() / 'report.html'}")
    if failed:
        few = len(failed) <= _MOST_EXPLAINED
        names = "; ".join(name + (why if few else ")") for name, why in failed)
        raise FailedError(f"{len(failed)} of {len(found)} failed: {names}")


def run_one(found: Sequence[Point], index: int) -> None:
    """Runs a point in this process, unless its results are there already."""
    point, parent = found[index], os.environ.get(_PARENT)
    name = f"point {index} of 0 to {len(found) - 1}: {point}"
    if results(point) is not None:  # its checkpoints need not be
        _say(f"{name} is finished, see {point.path / 'results.json'}")
        return
    if parent:
        stop_with(int(parent))
        outlive_readers()
    else:
        _say(name)
    from simclr_jax.stages import run as stages

    stages.run(point.config, str(point.path))


def outlive_readers() -> None:
    """Makes this process's output go nowhere, instead of failing, once its reader died.

    Of a killed sweep the running point still has its state to save.
    """
    sys.stdout, sys.stderr = _Outliving(sys.stdout), _Outliving(sys.stderr)


class _Outliving(io.TextIOBase):
    def __init__(self, stream: Any):
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Any, *args: str) -> None:
        try:
            call(*args)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is buffered goes there too
            os.close(nowhere)


def _say(text: str) -> None:
    print(f"sweep: {text}", file=sys.stderr, flush=True)


def _eta(begin: float, done: int, total: int) -> str:
    if not done:
        return ""
    each = (time.monotonic() - begin) / done
    return f"; {duration(each)} a point, ETA {duration(each * (total - done))}"


def _launch(command: list[str]) -> tuple[int, str]:
    """Runs a point's process; returns its exit code and the last line it wrote."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {_PARENT: str(os.getpid())},
        # Ctrl-C reaches this process alone, which passes it on once.
        start_new_session=True,
    )
    lines: deque[str] = deque([""], maxlen=1)

    def pass_on() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            sys.stderr.flush()
            if line.strip():
                lines.append(line.strip())

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    asked = False
    while True:
        try:
            code = process.wait(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            if stop_requested() and not asked:
                process.send_signal(signal.SIGTERM)
                asked = True
    reader.join(timeout=5)
    return code, lines[-1].removeprefix("error: ")


def _wait_for(point: Point) -> None:
    """Until no other process is running in the point's folder."""
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
      RequestError: the recipe's sweep, a point of it or `--index` is wrong.
      FailedError, StoppedError: as `run`.
    """
    sweep = plan.load(request.recipe)
    seeds = plan.seeds_of(request.seeds)
    found = plan.points(sweep, request.config, seeds, request.workdir)
    if request.index is not None and not 0 <= request.index < len(found):
        raise RequestError(
            f"--index: {request.index} is not one of the {len(found)} points, 0 to "
            f"{len(found) - 1}: {len(sweep.rows)} rows with the first seed, then with "
            "the next"
        )
    plan.check(sweep, found, argv[1:], to_run=not request.table)
    if request.table:
        print(collect(sweep, found, request.workdir))
    elif request.index is None:
        run(sweep, found, request.workdir, argv)
    else:
        run_one(found, request.index)
