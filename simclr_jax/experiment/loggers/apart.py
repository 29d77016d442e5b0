"""A logger in a process of its own, so that whatever it does the run goes on.

The run waits for its start and, for a while, its end, see `group`; not in between.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simclr_jax import signals
from simclr_jax.errors import RequestError, install
from simclr_jax.experiment.loggers import Logger
from simclr_jax.training.terminal import CLEAR, is_terminal

_START_SECONDS = 120.0  # to import its package, on a busy machine
_END_SECONDS = 5.0  # for threads, once the process has ended
# The services print little and report nothing about themselves, unless the environment
# sets these otherwise. What they print goes nowhere in any case, see `child`.
_QUIET = {
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])  # it finds what the run finds
from simclr_jax.experiment.loggers import child
sys.exit(child.main(sys.argv[2]))
"""


class Apart(Logger):
    """`Once` of a service, in a process that lives from `open` to `close`.

    Args:
      name: of the service, of its package and of the module here.
      path: the workdir.
      run: the run's name.
      fields: its recipe.

    Raises:
      RequestError: the package is not installed.
    """

    def __init__(self, name: str, path: Path, run: str, fields: dict[str, Any]):
        self._name = name
        self._start = {"name": run, "folder": str(path.resolve()), "fields": fields}
        self._process: subprocess.Popen[str] | None = None
        self._lost, self._unsent = False, ""
        self._calls: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        spec = find_spec(name)
        # W&B writes into a folder called as its package is, which Python would import.
        if spec is None or spec.origin is None:
            self._refuse(f"{name} is not installed; {install('loggers')}")

    def open(self) -> None:
        path = json.dumps([*map(str, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, path, self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=_QUIET | os.environ,
            start_new_session=True,  # Ctrl-C is for the run
        )
        self._threads = [
            threading.Thread(target=do, args=(self._process,), daemon=True)
            for do in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()
        answer = self._first_answer()
        if "ready" in answer:
            return
        why = answer.get("refused", "")
        if "missing" in answer:
            why = f"{self._name} can't be imported ({answer['missing']})"
            why += f"; {install('loggers')}"
        # A refusal is no warning; nor is a run that ends before the logger is there.
        self._lost = self._lost or bool(why) or signals.stop_requested()
        self._end(f"it did not start in {_START_SECONDS:.0f} s")
        if why:
            self._refuse(why)

    def _first_answer(self) -> dict[str, Any]:
        """What the process says at its start; {}: nothing in time."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and not signals.stop_requested():
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=0.1)
        return {}

    def begin(self, lines: list[dict[str, Any]], trainings: dict[str, int]) -> None:
        self._call("start", self._start)
        self._call("begin", lines, trainings)

    def cut(self, name: str, step: int, number: int) -> None:
        self._call("cut", name, step, number)

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        self._call("write", name, step, values)

    def summary(self, values: dict[str, float], step: int) -> None:
        self._call("summary", values, step)

    def close(self, ended: str) -> None:
        self._call("close", ended)
        self._calls.put(None)

    def sends(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        self._end("it did not send what was left in time")

    def _refuse(self, why: str) -> None:
        raise RequestError(f"config.loggers: {why}, or leave {self._name} out")

    def _call(self, method: str, *args: Any) -> None:
        if self._process is not None and not self._lost:
            self._calls.put(json.dumps([method, *args]) + "\n")

    def _end(self, late: str) -> None:
        """Ends the process; if it has not ended by itself, it is `late`."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            self._lose(late)
            process.kill()
        process.wait()
        self._calls.put(None)
        for thread in self._threads:
            thread.join(_END_SECONDS)

    def _write(self, process: subprocess.Popen[str]) -> None:
        """Hands over the calls: a process that does not read must not stop the run."""
        assert process.stdin
        with contextlib.suppress(OSError):  # it has ended; `_read` says why
            for call in iter(self._calls.get, None):
                process.stdin.write(call)
                process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Passes on what the process says, until it ends."""
        assert process.stdout
        with contextlib.suppress(ValueError):  # half a line: it was killed
            for line in process.stdout:
                self._take(json.loads(line))
        process.stdout.close()
        if process.wait():
            self._lose(f"its process has ended with exit code {process.returncode}")
        self._answers.put({})

    def _take(self, answer: dict[str, Any]) -> None:
        if "failed" in answer:
            self._lose(answer["failed"])
        elif "said" in answer:
            self._unsent = answer["unsent"]
            if answer["said"]:
                self._print(f"{self._name}: {answer['said']}")
        else:
            self._answers.put(answer)

    def _lose(self, why: str) -> None:
        """Says once that the logger is lost."""
        if self._lost:
            return
        self._lost = True
        self._print(
            f"warning: config.loggers: {self._name} has failed, and the run goes on "
            f"without it: {why}. The next run of this workdir sends what it did not "
            f"get. {self._unsent}".rstrip(". ")
        )

    def _print(self, line: str) -> None:
        # ValueError: the run has closed its stderr, at its end.
        with contextlib.suppress(OSError, ValueError):
            print(CLEAR * is_terminal() + line, file=sys.stderr, flush=True)
