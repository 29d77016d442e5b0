"""The process of one service, which `apart` starts and ends.

Each line of its input is a call of `Logger`, as JSON: ["write", "pretrain", 50, {...}].
Its answers are lines too: first {"ready": true}, {"missing": ...} or {"refused": ...},
then {"said": ...} for the run's stderr with {"unsent": ...}, see `Service`, or
{"failed": ...} at last.

It ends when its input ends, never by a signal: a cluster sends those to all processes,
and the run decides when to stop.
"""

import contextlib
import fcntl
import json
import os
import queue
import signal
import threading
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from simclr_jax.errors import one_line
from simclr_jax.experiment.loggers import Run
from simclr_jax.experiment.loggers.once import Once

# Seconds to close in, once the input has ended. A run that is there waits less.
_LAST = 120.0


def main(name: str) -> int:
    """Does what it is told; `name` is the service's module. Returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    calls, answers = _streams()

    def answer(**values: Any) -> None:
        with contextlib.suppress(OSError):  # the run was killed
            print(json.dumps(values), file=answers, flush=True)

    try:
        service = import_module(f"simclr_jax.experiment.loggers.{name}")
        wanted = service.check()
    except ImportError as error:
        answer(missing=one_line(error))
        return 0
    except Exception as error:
        answer(refused=one_line(error) or type(error).__name__)
        return 0
    answer(ready=True)

    waiting: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_take, args=(calls, waiting), daemon=True).start()
    once: Once | None = None
    lock: IO[str] | None = None
    try:
        for method, *args in iter(waiting.get, None):
            if method == "start" and wanted:
                run = Run(**args[0], id=None, lines=0)
                file = Path(run.folder) / "loggers" / f"{name}.json"
                lock = _locked(file.with_suffix(".lock"))
                once = Once(
                    service.Service,
                    run,
                    file,
                    lambda its: answer(said=its.where, unsent=its.unsent),
                )
            elif once:
                getattr(once, method)(*args)
    except BaseException as error:  # also a library's SystemExit
        answer(failed=f"{type(error).__name__}: {one_line(error)}")
        os._exit(1)  # what it would still do at its exit may take for ever
    del lock
    return 0


def _locked(path: Path) -> IO[str]:
    """Waits for the process of an earlier run, which may still send what it has."""
    path.parent.mkdir(exist_ok=True)
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _streams() -> tuple[IO[str], IO[str]]:
    """This process's input and output, which nothing else gets hold of from now on.

    What a library prints goes nowhere, and no process that it starts keeps them open.
    """
    calls = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return calls, answers


def _take(calls: IO[str], waiting: queue.SimpleQueue) -> None:
    """Takes calls as they come: the run must not wait while the service is slow."""
    closed = False
    # ValueError: half a line, for the run was killed while it wrote.
    with contextlib.suppress(OSError, ValueError):
        for line in calls:
            call = json.loads(line)
            closed = closed or call[0] == "close"
            waiting.put(call)
    if not closed:
        waiting.put(["close", "failed"])  # the run was killed
    waiting.put(None)
    timer = threading.Timer(_LAST, os._exit, [1])
    timer.daemon = True
    timer.start()
