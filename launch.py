"""The one entry point: flags -> config -> stages.

    python launch.py --config=configs/cifar10.py --workdir=runs/cifar10
    python launch.py --config=configs/demo.py --workdir=runs/a --config.epochs=5
    python launch.py --config=configs/small_batch.py --workdir=runs/study --sweep

The same command continues an interrupted run. Exit codes: 0 done, 1 the machine
failed us, 2 the request is wrong, 3 the training diverged, 75 stopped by a signal.
"""

import importlib.util
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simclr_jax.config.command_line import Request

# XLA's default code for a convolution's gradient by its kernel is slow on the CPU; the
# fusions replace it. An unknown flag or value aborts XLA: only versions it ran with.
_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_FUSIONS = ("DOT", "REDUCE", "ELTWISE")
_FUSION_JAXLIBS = ("0.10.2",)


# glibc: ask the kernel for huge pages behind big blocks.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_HUGE_PAGES_SETTING = "/sys/kernel/mm/transparent_hugepage/enabled"


def use_huge_pages() -> None:
    """Starts this Python process again, with huge pages where they are to be asked for.

    On a CPU a step's temporaries, gigabytes of them, are allocated anew each time.
    Handing them out in pages of 4 KiB took a quarter of the processors' time. The C
    library reads the setting only when a process starts, hence the second start, 20 ms.
    Not done if GLIBC_TUNABLES is set already, or jax has a CUDA plugin.
    """
    try:
        with open(_HUGE_PAGES_SETTING) as file:
            on_request = "[madvise]" in file.read()
    except OSError:  # not Linux, or a kernel without them
        return
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    on_gpu = any(map(importlib.util.find_spec, plugins))
    if on_request and not on_gpu and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = _HUGE_PAGES
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def set_cpu_flags() -> None:
    """Adds the CPU fusion flag to XLA_FLAGS; before jax is imported."""
    import importlib.metadata  # slow: not before `stop_at_once`

    flags = os.environ.get("XLA_FLAGS", "")
    tested = importlib.metadata.version("jaxlib") in _FUSION_JAXLIBS
    if tested and _FUSION_FLAG not in flags:
        values = ",".join(f"LIBRARY_FUSION_TYPE_{name}" for name in _FUSIONS)
        os.environ["XLA_FLAGS"] = f"{flags} {_FUSION_FLAG}={values}".strip()


def set_compilation_cache() -> None:
    """Keeps compiled steps in the user's cache folder; before jax is imported.

    JAX_COMPILATION_CACHE_DIR names another folder, empty for none.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", os.path.join(home, "simclr_jax", "xla")
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def require_packages() -> None:
    """Ends with one line where Python has not got what every run needs."""
    needed = ("absl", "jax", "flax", "optax", "ml_collections", "orbax")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"error: {sys.executable} has no package {missing[0]}; take "
            ".venv/bin/python after make test, or in the clone: pip install "
            "-c constraints.txt '.[train]'",
            file=sys.stderr,
        )
        sys.exit(2)


def stop_at_once() -> None:
    """Lets SIGTERM and SIGINT end the process while there is nothing to save.

    Packages take a second to import; then `catch_signals` takes over.
    """

    def stop(number: int, frame: object) -> None:
        del number, frame
        os.write(2, b"stopped: stopped; the same command continues\n")
        os._exit(75)  # an import in progress would swallow an exception

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def run(config, workdir: str) -> None:
    """Checks the request, then runs the stages that are not done yet."""
    from simclr_jax.config import validate as config_lib
    from simclr_jax.experiment import workdir as workdir_lib

    config_lib.validate(config)
    workdir_lib.check(workdir, config)

    from simclr_jax.stages import run as stages

    stages.run(config, workdir)


def run_sweep(request: "Request", argv: list[str]) -> None:
    """Checks all points of the recipe's sweep, then runs or collects them."""
    from simclr_jax.errors import RequestError
    from simclr_jax.sweep import plan as sweep_plan
    from simclr_jax.sweep import results as sweep_results
    from simclr_jax.sweep import run as sweep

    rows = sweep_plan.load(request.recipe)
    seeds = sweep_plan.seeds_of(request.seeds)
    points = sweep_plan.points(rows, request.config, seeds, request.workdir)
    if request.index is not None and not 0 <= request.index < len(points):
        raise RequestError(
            f"--index: {request.index} is not one of the {len(points)} points, 0 to "
            f"{len(points) - 1}: {len(rows.rows)} rows with the first seed, then with "
            "the next"
        )
    sweep_plan.check(rows, points, argv[1:], to_run=not request.table)
    if request.table:
        print(sweep_results.collect(rows, points, request.workdir))
    elif request.index is None:
        sweep.run(rows, points, request.workdir, argv)
    else:
        sweep.run_one(points, request.index)


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    from simclr_jax.config import command_line
    from simclr_jax.errors import DivergedError, FailedError, RequestError, StoppedError

    try:
        request = command_line.parse(argv, __doc__ or "")
        if request.sweep:
            run_sweep(request, argv)
        else:
            run(request.config, request.workdir)
    except (RequestError, DivergedError, StoppedError, FailedError) as error:
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        # One line, though a value in it may have several.
        print(f"{kind}: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # what XLA raises
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).splitlines()[0]
        print(
            f"error: {first}; lower config.batch_size, or set config.microbatch or "
            "config.remat=True",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    stop_at_once()
    require_packages()
    use_huge_pages()
    set_cpu_flags()
    set_compilation_cache()
    from simclr_jax.signals import catch_signals

    catch_signals()
    sys.exit(main(sys.argv))
