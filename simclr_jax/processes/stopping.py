"""Signals: one to any process stops all of them, at the same step."""

from collections import deque
from functools import cache
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simclr_jax.errors import StoppedError
from simclr_jax.processes.group import count
from simclr_jax.signals import check_stop, stop_requested


def check_stop_together() -> None:
    """Raises StoppedError on all processes if a signal has come to any of them.

    All must call it. It waits for them; in a loop of steps, use `StopVote`.
    """
    if count() == 1:
        return check_stop()
    if np.any(multihost_utils.process_allgather(np.int32(stop_requested()))):
        _stop()


class StopVote:
    """Whether a signal has come to any process, asked once a step without waiting.

    Every call sends this process's answer and reads the result of the call before the
    last. The devices have it by then, and all processes read the same one, so that all
    stop at the same step. With one process a signal counts at once.
    """

    def __init__(self) -> None:
        self._sent: deque[jax.Array] = deque()

    def check(self) -> None:
        """Raises StoppedError; all processes must call it equally often."""
        if count() == 1:
            return check_stop()
        answers, anyone = _ballot()
        answer = np.array([stop_requested()])
        self._sent.append(
            anyone(
                jax.make_array_from_callback(
                    (answers.mesh.size,), answers, lambda _: answer
                )
            )
        )
        if len(self._sent) > 2 and bool(self._sent.popleft()):
            _stop()


@cache
def _ballot():
    """`(sharding of an answer on each device, the jitted function that joins them)`."""
    mesh = Mesh(np.array(jax.devices()), ("device",))
    joined = NamedSharding(mesh, PartitionSpec())
    anyone = jax.jit(lambda answers: answers.any(), out_shardings=joined)
    return NamedSharding(mesh, PartitionSpec("device")), anyone


def _stop() -> NoReturn:
    raise StoppedError("by a signal; run the same command again to continue")
