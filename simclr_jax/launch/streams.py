"""A run's stdout and stderr: they take any name, and no closed pipe ends a run."""

import io
import os
import signal
import sys
from typing import Any, TextIO

from simclr_jax import startup

# XLA's autotuner prints this when it has timed a GPU operation less precisely.
_NOISE = b"Delay kernel timed out"


class _Unread(io.FileIO):
    """A file whose write errors don't matter: nobody reads it, or its disk is full."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _stderr(descriptor: int, encoding: str) -> TextIO:
    buffer = io.BufferedWriter(_Unread(descriptor, "w"))
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


def keep_stderr() -> None:
    """Lets a run go on, and save, after its stderr has closed.

    `launch.py 2>&1 | tee log` is such a run once Ctrl-C has ended tee. Without this,
    the next progress line would end the run before it saves. A run that is started
    without stderr (`2>&-`) gets one that goes nowhere, not the next file it opens.
    """
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.set_inheritable(2, True)
        if nowhere != 2:
            os.close(nowhere)
        sys.stderr = _stderr(2, "utf-8")
        return
    sys.stderr.flush()
    sys.stderr = _stderr(os.dup(2), sys.stderr.encoding)


def print_any_name() -> None:
    """Lets stdout take names of files in any encoding: a byte E9 becomes \\udce9.

    Otherwise a table that names such a file would end in a UnicodeEncodeError.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def filter_stderr() -> None:
    """Keeps the autotuner's "Delay kernel timed out" lines off a GPU run's stderr.

    XLA logs them as errors, so the log level that drops them drops real errors too. A
    second process copies what native code writes to stderr, without these lines. A
    process and not a thread: it copies the last words of a crash as well. Python's own
    stderr does not pass through it. If TF_CPP_MIN_LOG_LEVEL is set, nothing is
    filtered.
    """
    chosen = "TF_CPP_MIN_LOG_LEVEL" in os.environ
    if chosen or sys.stderr is None or not startup.has_cuda():
        return
    sys.stderr.flush()
    source, sink = os.pipe()
    stderr = os.dup(2)
    if os.fork() == 0:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it ends when the run does
            os.close(sink)
            os.closerange(0, 2)  # whoever reads the run's stdout waits for its end
            _copy_lines(source, stderr)
        finally:
            os._exit(0)
    os.close(source)
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = _stderr(stderr, sys.stderr.encoding)


def _copy_lines(source: int, sink: int) -> None:
    """Copies lines until the source ends, without those of the autotuner."""
    with open(source, "rb") as lines:
        for line in lines:
            if _NOISE not in line:
                os.write(sink, line)
