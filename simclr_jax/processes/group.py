"""How a process joins the others of its run, and which one it is."""

import atexit
import socket
import sys
import threading
import time
from collections.abc import Callable

import jax

from simclr_jax import startup
from simclr_jax.errors import FailedError, RequestError
from simclr_jax.processes import ending
from simclr_jax.signals import check_stop

_ADVICE = (
    "; start it with srun, mpirun or in a Kubernetes job, or give "
    "--coordinator=HOST:PORT --processes=N --process=I"
)


def count() -> int:
    """The number of processes."""
    return jax.process_count() if ending.joined.is_set() else 1


def first() -> bool:
    """Whether this is process 0, which writes."""
    return count() == 1 or jax.process_index() == 0


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    heartbeat: int = 100,
    patience: float = 300.0,
) -> None:
    """Joins the run's processes; before jax is asked for its devices.

    All of process 0's output stays. The others print nothing from now on.

    Args:
      coordinator: HOST:PORT of process 0. None: jax finds it, and the two numbers, in
        the environment of Slurm, Open MPI or Kubernetes, or by JAX_COORDINATOR_ADDRESS.
      processes, process: how many there are, and which this is, from 0 on.
      heartbeat: seconds without a sign of life after which a process counts as dead.
      patience: seconds to wait for the others.

    Raises:
      RequestError: jax can't find the processes, or the port is taken.
      FailedError: some of them did not come.
      StoppedError: a signal came while this one waited.
    """
    if coordinator is not None and process == 0:
        _check_port(coordinator)
    # With it, a SIGTERM would go to jax, and the run would not save.
    jax.config.update("jax_enable_preemption_service", False)
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                # Else jax, under Slurm, would give each process a single device.
                cluster_detection_method="deactivate" if coordinator else None,
                # When its own time is up, jax aborts.
                initialization_timeout=int(patience) + 60,
                heartbeat_timeout_seconds=heartbeat,
            )
        except Exception as error:
            failed.append(error)

    try:
        _wait(join, patience, coordinator or "the address that jax found")
        if failed:
            line = next(iter(str(failed[0]).splitlines()), "")
            flag = "--coordinator" if coordinator else "--distributed"
            raise RequestError(f"{flag}: {line}{_ADVICE}") from failed[0]
    except Exception:
        sys.stderr = startup.stderr()  # process 0 can't say it for this one
        raise
    # `leave` does this, while all processes are known to be alive.
    atexit.unregister(jax.distributed.shutdown)
    ending.joined.set()
    if not first():
        startup.be_silent()
    threading.Thread(target=ending.watch, name="watch", daemon=True).start()


def _wait(join: Callable[[], None], patience: float, where: str) -> None:
    """Runs `join` in a thread: this one would hear no signal while it waits."""
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    end = time.monotonic() + patience
    while thread.is_alive():
        thread.join(0.2)
        check_stop()
        if time.monotonic() > end:
            raise FailedError(
                f"not all processes have come to {where} within {patience:.0f} seconds;"
                " start the same command on all machines"
            )


def _check_port(coordinator: str) -> None:
    """Raises RequestError if process 0 can't listen there; jax would crash."""
    port = int(coordinator.rpartition(":")[2])
    try:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("", port))
    except OSError as error:
        raise RequestError(
            f"--coordinator: port {port} can't be used here: {error.strerror}; "
            "choose another"
        ) from error
