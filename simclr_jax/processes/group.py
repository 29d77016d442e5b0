"""How a process joins the others of its run, and which one it is."""

import atexit
import sys
import threading

import jax

from simclr_jax import startup
from simclr_jax.errors import RequestError
from simclr_jax.processes import ending
from simclr_jax.signals import check_stop

_ADVICE = (
    "; start it with srun, mpirun or in a Kubernetes job, or give "
    "--coordinator=HOST:PORT --processes=N --process=I"
)


def count() -> int:
    """The number of processes."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is process 0, which writes."""
    return count() == 1 or jax.process_index() == 0


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    heartbeat: int = 100,
) -> None:
    """Joins the run's processes; before jax is asked for its devices.

    All of process 0's output stays. The others print nothing from now on.

    Args:
      coordinator: HOST:PORT of process 0. None: jax finds it, and the two numbers, in
        the environment of Slurm, Open MPI or Kubernetes, or by JAX_COORDINATOR_ADDRESS.
      processes, process: how many there are, and which this is, from 0 on.
      heartbeat: seconds without a sign of life after which a process counts as dead.

    Raises:
      RequestError: jax can't find the processes.
      StoppedError: a signal came while it waited for them.
    """
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
                heartbeat_timeout_seconds=heartbeat,
            )
        except Exception as error:
            failed.append(error)

    # A thread, because a signal is not heard while this one waits for the others.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        check_stop()
    if failed:
        sys.stderr = startup.stderr()  # process 0 can't say it for this one
        first_line = next(iter(str(failed[0]).splitlines()), "")
        flag = "--coordinator" if coordinator else "--distributed"
        raise RequestError(f"{flag}: {first_line}{_ADVICE}") from failed[0]
    # `leave` does this, while all processes are known to be alive.
    atexit.unregister(jax.distributed.shutdown)
    if not first():
        startup.be_silent()
    threading.Thread(target=ending.watch, name="watch", daemon=True).start()
