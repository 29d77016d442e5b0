"""Decisions: process 0 takes them, and all processes get them."""

import contextlib
import functools
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
from jax.experimental import multihost_utils

from simclr_jax.processes.group import count, first

T = TypeVar("T")
P = ParamSpec("P")

# Bytes in one broadcast: the first of each message, and each that follows.
_HEAD, _CHUNK = 1 << 16, 1 << 24
_alone = threading.local()  # .now: this thread does what the others don't


def agree(decide: Callable[[], T], name: str = "") -> T:
    """What `decide` returns on process 0, or the exception that it raises there.

    The other processes wait and don't call it. All must call `agree`, in the same
    order. Inside `decide`, `agree` only calls its function.

    Args:
      decide: `() -> value`; value or exception must be picklable.
      name: tells it from other calls. The default is the name of `decide`.

    Raises:
      RuntimeError: the processes have come to different calls. It is a fault of the
        program; without this check one would get the other's value.
    """
    if count() == 1 or getattr(_alone, "now", False):
        return decide()
    name = name or decide.__qualname__
    if not first():
        theirs, value, error = pickle.loads(_broadcast(b""))
        if theirs != name:
            raise RuntimeError(f"process 0 decides {theirs}, this one waits for {name}")
        if error is not None:
            error.agreed = True  # process 0 says it
            raise error
        return value
    value = error = None
    try:
        with alone():
            value = decide()
    except Exception as raised:
        error = raised
    _broadcast(_pickled(name, value, error))
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, `agree` does not wait for the others, which do something else."""
    before, _alone.now = getattr(_alone, "now", False), True
    try:
        yield
    finally:
        _alone.now = before


def agreed(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, run on process 0 for all; see `agree`."""

    @functools.wraps(function)
    def on_first(*args: P.args, **kwargs: P.kwargs) -> T:
        return agree(lambda: function(*args, **kwargs), function.__qualname__)

    return on_first


def first_only(function: Callable[P, T]) -> Callable[P, T | None]:
    """`function`, run on process 0. The others neither run it nor wait for it: they
    get None."""

    @functools.wraps(function)
    def on_first(*args: P.args, **kwargs: P.kwargs) -> T | None:
        if not first():
            return None
        with alone():
            return function(*args, **kwargs)

    return on_first


def _pickled(name: str, value: Any, error: Exception | None) -> bytes:
    try:
        return pickle.dumps((name, value, error))
    except Exception:  # some exceptions can't be
        if error is None:
            raise
        return pickle.dumps((name, None, RuntimeError(str(error))))


def _broadcast(message: bytes) -> bytes:
    """The message of process 0, in pieces of two sizes, so that jax compiles two."""

    def send(piece: bytes, size: int) -> bytes:
        padded = np.zeros(size, np.uint8)
        padded[: len(piece)] = np.frombuffer(piece, np.uint8)
        return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes()

    room = _HEAD - 8
    head = send(len(message).to_bytes(8, "little") + message[:room], _HEAD)
    size = int.from_bytes(head[:8], "little")
    received = bytearray(head[8:])
    while len(received) < size:
        begin = len(received)
        received += send(message[begin : begin + _CHUNK], _CHUNK)
    return bytes(received[:size])
