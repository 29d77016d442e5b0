"""The first and the last lines of a process: what a signal does there.

It must run before all that is slow to import, so it imports next to nothing itself.
"""

# Built in, as atexit: the module `signal` imports for milliseconds.
import _signal as signal  # pyright: ignore[reportMissingImports]
import atexit
import os
import sys

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOPPED = b"stopped: by a signal; run the same command again to continue\n"


def start() -> int:
    """Runs this process's command line; returns the exit code."""
    stop_at_once()
    from simclr_jax.launch import main

    return main.start()


def stop_at_once() -> None:
    """Lets SIGTERM and SIGINT end the process while there is nothing to save.

    This covers the seconds that importing packages takes; then `signals.catch_signals`
    follows. A signal that was held back, as by `startup.use_huge_pages`, arrives now.
    """

    def stop(number: int, frame: object) -> None:
        del number, frame
        try:
            os.write(2, _STOPPED)
        finally:
            os._exit(75)  # an import in progress would swallow an exception

    for number in _SIGNALS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    # Python calls last what was registered first. What follows it is the end of Python,
    # which would let signals kill the process again.
    atexit.unregister(_ignore)
    atexit.register(_ignore)


def end_with(code: int) -> int:
    """Returns the exit code, which no signal can change any more: the work is done.

    Until Python's end a signal ends the process at once, should something hang there.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # nobody reads it
            pass

    def end(number: int, frame: object) -> None:
        del number, frame
        os._exit(code)

    for number in _SIGNALS:
        signal.signal(number, end)
    return code


def _ignore() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
