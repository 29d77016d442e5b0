"""SIGTERM and SIGINT as a request to stop, heard between two steps."""

import signal
import sys

from simclr_jax.errors import StoppedError

_received: list[int] = []


def catch_signals() -> None:
    """The first SIGTERM or SIGINT asks the run to stop, a second ends it at once."""

    def ask(number: int, frame: object) -> None:
        del frame
        _received.append(number)
        name = signal.Signals(number).name
        print(f"\n{name}: saving, then stopping", file=sys.stderr, flush=True)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def check_stop() -> None:
    """Raises StoppedError once a signal has asked for it; call it in any long loop."""
    if _received:
        raise StoppedError("stopped; the same command continues")
