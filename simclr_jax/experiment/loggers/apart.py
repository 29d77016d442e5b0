"""A logger in a process of its own, so that whatever it does the run goes on.

The run never waits for it, but for its start and, for a while, its end.
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
# To send what is left. After a signal the machine may be gone soon.
_CLOSE_SECONDS, _STOP_SECONDS = 60.0, 5.0
# The services' own output and reports stay out of the run, unless someone wants them.
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
        self._lost = False
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
        self._reads = threading.Thread(
            target=self._read, args=(self._process,), daemon=True
        )
        self._reads.start()
        try:
            answer = self._answers.get(timeout=_START_SECONDS)
        except queue.Empty:
            answer = {}
        if "ready" in answer:
            return
        why = answer.get("refused", "")
        if "missing" in answer:
            why = f"{self._name} can't be imported ({answer['missing']})"
            why += f"; {install('loggers')}"
        self._lost = bool(why)  # a refusal is no warning
        self._end(0, f"it did not start in {_START_SECONDS:.0f} s")
        if why:
            self._refuse(why)

    def begin(self, lines: list[dict[str, Any]]) -> None:
        self._call("start", self._start)
        self._call("begin", lines)

    def cut(self, name: str, step: int) -> None:
        self._call("cut", name, step)

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        self._call("write", name, step, values)

    def summary(self, values: dict[str, float], step: int) -> None:
        self._call("summary", values, step)

    def close(self, ended: str) -> None:
        """Waits until all is sent: a minute at most, 5 s after a signal."""
        self._call("close", ended)
        seconds = _STOP_SECONDS if ended == "stopped" else _CLOSE_SECONDS
        self._end(seconds, f"it did not send what was left in {seconds:.0f} s")

    def _refuse(self, why: str) -> None:
        raise RequestError(f"config.loggers: {why}, or leave {self._name} out")

    def _call(self, method: str, *args: Any) -> None:
        if self._process is None:
            return
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps([method, *args]) + "\n")
            self._process.stdin.flush()
        except OSError:  # it has ended; `_read` says why
            self._end(0, "its process has ended")

    def _end(self, seconds: float, late: str) -> None:
        """Waits for the process to end, and then ends it: it is `late`."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        with contextlib.suppress(OSError):
            process.stdin.close()
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            if signals.stop_requested():
                deadline = min(deadline, time.monotonic() + _STOP_SECONDS)
            time.sleep(0.02)
        if process.poll() is None:
            self._lose(late)
            process.kill()
        process.wait()
        self._reads.join(_STOP_SECONDS)

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Passes on what the process says, until it ends."""
        assert process.stdout
        for line in process.stdout:
            answer = json.loads(line)
            if "said" in answer:
                self._print(f"{self._name}: {answer['said']}")
            elif "failed" in answer:
                self._lose(answer["failed"])
            else:
                self._answers.put(answer)
        process.stdout.close()
        if process.wait():
            self._lose(f"its process has ended with exit code {process.returncode}")
        self._answers.put({})

    def _lose(self, why: str) -> None:
        """Says once that the logger is lost."""
        if self._lost:
            return
        self._lost = True
        self._print(
            f"warning: config.loggers: {self._name} has failed, and the run goes on "
            f"without it: {why}. The next run of this workdir sends what is missing"
        )

    def _print(self, line: str) -> None:
        # ValueError: the run has closed its stderr, at its end.
        with contextlib.suppress(OSError, ValueError):
            print(CLEAR * is_terminal() + line, file=sys.stderr, flush=True)
