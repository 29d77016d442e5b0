"""A request in a process forked from one that has imported the packages.

That one uses no device: jax starts no threads before it does.
"""

import io
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

CPU = ".cpu_seconds"  # the file that says what the process used


def serve(argv: list[str], out: str, err: str, run: bool) -> None:
    """In the forked process: launch.py with these arguments, but for its start.

    Args:
      out, err: the files for what it prints.
      run: else it is told to stop once nothing is left but to compute.
    """
    os.chdir(Path(out).parent)
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
    sys.stdout = io.TextIOWrapper(
        os.fdopen(1, "wb", closefd=False), "utf-8", "backslashreplace"
    )
    sys.stderr = io.TextIOWrapper(
        os.fdopen(2, "wb", closefd=False), "utf-8", "backslashreplace"
    )
    limit = 12 * 2**30  # a request for a terabyte must fail, and not the machine
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from simclr_jax import signals
    from simclr_jax.launch import main

    signals.catch_signals()
    if not run:
        _stop_when_open()
    code = 1
    try:
        code = main.main(["launch.py", *argv])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    Path(out).with_name(CPU).write_text(str(time.process_time()))
    os._exit(code)


def _stop_when_open() -> None:
    from simclr_jax import signals
    from simclr_jax.experiment.workdir import Workdir

    begin = Workdir.open

    def and_stop(self: Any) -> Any:
        begin(self)
        os.kill(os.getpid(), signal.SIGTERM)
        signals.check_stop()
        return self

    Workdir.open = and_stop
