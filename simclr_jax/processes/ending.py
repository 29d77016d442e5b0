"""Ends: the error of one process ends all, with one exit code and one message.

Processes tell each other through the store in which jax's processes find each other.
Unlike a collective, it can be asked while a process is missing or waits for ever.
"""

import json
import os
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

import jax

from simclr_jax import startup
from simclr_jax.errors import StoppedError

_END = "simclr_jax/end"  # the key under which the first process to fail tells why
_POLL_SECONDS = 0.5
# In what jax raises when a process that it needs is gone.
_LOST = ("Gloo", "NCCL", "onnection", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat")
_DIED = "error: {} of this run has died; start the same command again on all machines"

joined = threading.Event()  # set once this process has found the others
_leaving = threading.Event()
# Held for good by the thread that prints the one error, and by the one that exits.
_said, _exiting = threading.Lock(), threading.Lock()


def _store() -> Any:
    from jax._src import distributed  # it has no public name

    return distributed.global_state.client


def leave(code: int | None, line: str = "", error: Exception | None = None) -> None:
    """Ends this process's part of the run; with one process it does nothing.

    After an error it does not return. Every process exits with `code`, and process 0
    prints `line`.

    Args:
      code: 0 to end well; None for an error that nobody foresaw, or that the death of
        another process caused.
    """
    if not joined.is_set():
        return
    if code is None:
        assert error is not None
        code, line = _unforeseen(error)
    if code == 0:
        _leaving.set()
        jax.distributed.shutdown()
        return
    if jax.process_index() == 0:
        _say(line)
    # Otherwise the others come here too, with the same error.
    together = isinstance(error, StoppedError)
    if not (together or getattr(error, "agreed", False)):
        _tell(code, line)
    _exit(code)


def _unforeseen(error: Exception) -> tuple[int, str]:
    text = " ".join(str(error).split())
    if any(word in text for word in _LOST):
        # Had it left with an error of its own, `watch` would end this process now.
        time.sleep(4 * _POLL_SECONDS)
        return 134, f"{_DIED.format('another process')} ({text[:120]})"
    if not getattr(error, "agreed", False):
        traceback.print_exception(error, file=startup.stderr())
    return 1, f"error: {type(error).__name__}: {text[:200]}"


def _tell(code: int, line: str) -> None:
    """Tells the other processes, unless another one has done so before."""
    end = json.dumps({"code": code, "line": line, "process": jax.process_index()})
    try:
        _store().key_value_set(_END, end)
    except Exception as error:
        if "ALREADY_EXISTS" not in str(error):  # process 0 is gone
            _say(line)


def _say(line: str) -> None:
    if line and _said.acquire(blocking=False):
        # Not sys.stderr, where only process 0 speaks: process 0 may be gone.
        print(line, file=startup.stderr(), flush=True)


def watch() -> None:
    """Waits for another process's error, then ends this one."""
    while not _leaving.wait(_POLL_SECONDS):
        try:
            end = json.loads(_store().key_value_try_get(_END))
        except Exception as error:
            if "NOT_FOUND" in str(error) or _leaving.is_set():
                continue
            _say(_DIED.format("process 0"))
            _exit(134)
        if end["process"] == jax.process_index():
            return
        if jax.process_index() == 0 and end["line"]:
            kind, _, rest = end["line"].partition(": ")
            _say(f"{kind}: process {end['process']}: {rest}")
        _exit(end["code"])


def _exit(code: int) -> NoReturn:
    _leaving.set()
    _exiting.acquire()  # never released: a second thread waits here for the end
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        if code == 134:  # the dead one can't say goodbye
            time.sleep(
                4 * _POLL_SECONDS if jax.process_index() == 0 else 2 * _POLL_SECONDS
            )
        else:
            # Waits for the others: were process 0 gone first, jax would abort them.
            jax.distributed.shutdown()
    finally:
        os._exit(code)
