"""SIGTERM and SIGINT ask the run to stop; it checks for them between two steps."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from simclr_jax.errors import StoppedError

_received: list[int] = []


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def catch_signals(then: Mapping[Any, Any] | None = None) -> None:
    """The first SIGTERM or SIGINT asks the run to stop; a second ends it at once.

    Args:
      then: who handles a second one, for each of the two; None: it ends the process.
    """

    def ask(number: int, frame: object) -> None:
        del frame
        _received.append(number)
        signal.signal(number, then[number] if then else signal.SIG_DFL)
        name = signal.Signals(number).name
        # OSError: nobody reads stderr. RuntimeError: the signal came during a print.
        with contextlib.suppress(OSError, RuntimeError):
            print(f"\n{name}: saving, then stopping", file=sys.stderr, flush=True)

    for number in _SIGNALS:
        signal.signal(number, ask)


@contextlib.contextmanager
def asked_by_signals() -> Iterator[None]:
    """As `catch_signals`, for a block of someone else's program.

    The program's own handlers are back afterwards, and they get the signal that asked.
    If that ends neither the program nor the block, as a handler that does nothing, a
    block that has stopped raises KeyboardInterrupt.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or None in before.values():  # Python lets us set no handlers
        yield
        return
    _received.clear()
    catch_signals(before)
    stopped = None
    try:
        yield
    except StoppedError as error:
        stopped = error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        received = _received.copy()
        _received.clear()
    for number in received[:1]:
        signal.raise_signal(number)
    if stopped is not None:
        raise KeyboardInterrupt(str(stopped))


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
