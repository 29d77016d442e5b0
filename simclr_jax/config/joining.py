"""Which processes a run has, from its flags."""

from collections.abc import Mapping
from typing import Any

from simclr_jax.errors import RequestError

_BY_HAND = ("coordinator", "processes", "process")


def arguments(flags: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of `processes.start`; None: one process.

    Args:
      flags: `distributed`, `coordinator`, `processes`, `process` and `heartbeat`.

    Raises:
      RequestError: they do not fit together.
    """
    by_hand = {name: flags[name] for name in _BY_HAND}
    given = {name for name, value in by_hand.items() if value is not None}
    heartbeat = {"heartbeat": flags["heartbeat"]}
    if flags["distributed"] and given:
        name = sorted(given)[0]
        raise RequestError(f"--{name}: --distributed finds it; give one or the other")
    if not flags["distributed"] and not given:
        return None
    if flags["heartbeat"] < 1:
        raise RequestError(
            f"--heartbeat: {flags['heartbeat']} is not at least 1 second"
        )
    if flags["distributed"]:
        return heartbeat
    for name in by_hand:
        if name not in given:
            raise RequestError(f"--{name}: missing; the other two need it")
    host, _, port = str(flags["coordinator"]).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise RequestError(
            f"--coordinator: {flags['coordinator']} is not HOST:PORT of process 0"
        )
    if not 0 <= by_hand["process"] < by_hand["processes"]:
        raise RequestError(
            f"--process: {flags['process']} is not in 0..{by_hand['processes'] - 1}"
        )
    return by_hand | heartbeat
