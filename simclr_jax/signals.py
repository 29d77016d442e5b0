"""SIGTERM and SIGINT ask the run to stop; it checks for them between two steps."""

import contextlib
import os
import signal
import sys
import threading
import time

from simclr_jax.errors import StoppedError

_received: list[int] = []


def catch_signals() -> None:
    """The first SIGTERM or SIGINT asks the run to stop; a second ends it at once."""

    def ask(number: int, frame: object) -> None:
        del frame
        _received.append(number)
        signal.signal(number, signal.SIG_DFL)
        name = signal.Signals(number).name
        # OSError: nobody reads stderr. RuntimeError: the signal came during a print.
        with contextlib.suppress(OSError, RuntimeError):
            print(f"\n{name}: saving, then stopping", file=sys.stderr, flush=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def stop_requested() -> bool:
    """Whether a signal has asked the run to stop."""
    return bool(_received)


def check_stop() -> None:
    """Raises StoppedError if a signal has come; call it in any long loop."""
    if stop_requested():
        raise StoppedError("by a signal; run the same command again to continue")


def stop_with(parent: int) -> None:
    """Sends this process SIGTERM once it is no longer a child of process `parent`.

    The runs of a sweep call this, so that none goes on after the sweep is killed.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
