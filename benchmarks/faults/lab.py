"""A run of seconds, ways to start and to end it, and what counts as a wrong answer."""

import contextlib
import fcntl
import multiprocessing
import random
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import tiny
import tiny_runs

from benchmarks.faults import forked

HUNG = 600  # seconds; no busy machine needs them for a run of ten
ONE_LINE = {1: "error: ", 2: "error: ", 3: "error: ", 75: "stopped: "}


class Wrong(Exception):
    """What came is not what was required; the message says what came."""


class Kind(NamedTuple):
    """Faults of one kind.

    Attributes:
      name: for `--only`.
      required: a sentence: what each try has to show.
      count: how many tries.
      run: `(lab, random, folder, number)` does one try in an empty folder; raises Wrong
        or AssertionError. What it does depends on its arguments alone. What it returns,
        if anything, is a remark for the record.
      apart: whether each try is a process of its own, so that two can run at a time.
    """

    name: str
    required: str
    count: int
    run: Callable[["Lab", random.Random, Path, int], str | None]
    apart: bool = True


class Ended(NamedTuple):
    """A run of launch.py that has ended."""

    command: str
    code: int | None
    stdout: str
    stderr: str

    def require(self, *codes: int) -> "Ended":
        """Raises Wrong unless it ended with one of these exit codes and said one line.

        No traceback; for any code but 0 one line with `error: ` or `stopped: `, the
        last one.
        """
        if self.code not in codes:
            raise Wrong(f"exit code {self.code}, not {codes}; {self.tail()}")
        if "Traceback (most recent call last)" in self.stderr:
            raise Wrong(f"a traceback; {self.tail()}")
        lines = self.stderr.splitlines()
        said = [x for x in lines if x.startswith(("error: ", "stopped: "))]
        start = ONE_LINE.get(self.code or 0)
        if start and (said != lines[-1:] or not said[0].startswith(start)):
            raise Wrong(f"not one line at the end; {self.tail()}")
        if not start and said:
            raise Wrong(f"exit code 0, but it says {said}")
        return self

    def tail(self) -> str:
        return f"{self.command}\n{self.stderr[-3000:]}"


class Lab:
    """What all kinds share.

    Args:
      folder: for the data and for the run that nobody interrupts.
      whole: the workdir of such a run, if there is one already; `npz`: its data.
    """

    def __init__(self, folder: Path, whole: Path | None = None):
        self.folder, self._whole = folder, whole
        self.cpu_seconds: list[float] = []  # of processes that others have waited for
        folder.mkdir(parents=True, exist_ok=True)
        with self._once("data"):
            self.npz = folder / "squares.npz"
            if not self.npz.exists():
                tiny.write_npz(self.npz)

    @contextlib.contextmanager
    def _once(self, name: str) -> Iterator[None]:
        with (self.folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @cached_property
    def whole(self) -> Path:
        """The workdir of a run of every stage that was never interrupted."""
        if self._whole is not None:
            return self._whole
        with self._once("whole"):
            workdir = self.folder / "whole"
            if not (workdir / "report.html").exists():
                shutil.rmtree(workdir, ignore_errors=True)
                self.launch(*tiny.recipe(self.npz), workdir=workdir).require(0)
            return workdir

    def flags(self) -> list[str]:
        return tiny.recipe(self.npz)

    def launch(
        self,
        *flags: str,
        workdir: Path,
        interrupt: Callable[[Any], None] | None = None,
        **environment: str,
    ) -> Ended:
        """`python launch.py`; `interrupt` is given the process once it runs."""
        flags = (*flags, f"--workdir={workdir}")
        process = tiny.launch(*flags, wait=False, **environment)
        command = shlex.join(["python", "launch.py", *flags])
        out, err = _communicate(process, interrupt, command)
        return Ended(command, process.returncode, out, err)

    def request(
        self, *flags: str, workdir: Path, run: bool = True, words: tuple[str, ...] = ()
    ) -> Ended:
        """The same in a process forked from one that has imported the packages.

        Args:
          run: else it is told to stop once nothing is left but to compute.
          words: what comes instead of the flags of a run, for a command.
        """
        argv = list(words) or [*flags, f"--workdir={workdir}"]
        place = workdir.parent
        place.mkdir(parents=True, exist_ok=True)
        out, err = place / ".stdout", place / ".stderr"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.faults.preloaded"])
        process = context.Process(
            target=forked.serve, args=(argv, str(out), str(err), run)
        )
        process.start()
        process.join(HUNG)
        command = shlex.join(["python", "launch.py", *argv])
        if process.is_alive():
            process.kill()
            process.join()
            said = err.read_text(errors="replace")[-2000:]
            raise Wrong(f"still running after {HUNG} s: {command}\n{said}")
        texts = [path.read_text(errors="replace") for path in (out, err)]
        with contextlib.suppress(FileNotFoundError):
            self.cpu_seconds.append(float((place / forked.CPU).read_text()))
        return Ended(command, process.exitcode, *texts)

    def equals_whole(self, workdir: Path) -> None:
        """Every stage is, bit for bit, that of the run that nobody interrupted."""
        theirs, ours = (tiny_runs.results(x) for x in (self.whole, workdir))
        missing = [x for x in tiny_runs.STAGES if x in theirs and x not in ours]
        if missing:
            raise Wrong(f"{workdir} has no result of {missing}")
        tiny_runs.assert_part_of(workdir, self.whole)
        left = [x.name for x in workdir.rglob("*.tmp")]
        if left:
            raise Wrong(f"{workdir} has {left}")


def _communicate(
    process: Any, interrupt: Callable[[Any], None] | None, command: str
) -> tuple[str, str]:
    hurt = []
    if interrupt is not None:
        hurt = [threading.Thread(target=interrupt, args=(process,))]
        hurt[0].start()
    try:
        return process.communicate(timeout=HUNG)
    except subprocess.TimeoutExpired as error:
        process.kill()
        said = process.communicate()[1][-2000:]
        raise Wrong(f"still running after {HUNG} s: {command}\n{said}") from error
    finally:
        for thread in hurt:
            thread.join()


def after_record(
    workdir: Path, count: int, delay: float, number: int
) -> Callable[[Any], None]:
    """Sends a signal so many seconds after line `count` of metrics.jsonl is there."""

    def interrupt(process: Any) -> None:
        path = workdir / "metrics.jsonl"
        while process.poll() is None and count:
            with contextlib.suppress(FileNotFoundError):
                if path.read_bytes().count(b"\n") >= count:
                    break
            time.sleep(0.003)
        until = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(number)

    return interrupt


def last_line(done: Ended) -> str:
    """What it said of its end, for a record."""
    return (done.stderr.splitlines() or [""])[-1][:150] if done.code else ""
