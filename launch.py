"""The one entry point: it reads the flags, makes the config and runs the stages.

    python launch.py --config=configs/cifar10.py --workdir=runs/cifar10
    python launch.py --config=configs/demo.py --workdir=runs/a --config.epochs=5
    python launch.py --config=configs/small_batch.py --workdir=runs/study --sweep
    python launch.py --help [--config=configs/demo.py]

The same command continues an interrupted run. Exit codes: 0 done, 1 the machine
failed, 2 the request is wrong, 3 the training diverged, 75 stopped by a signal.
"""

import sys
from pathlib import Path
from typing import Any

import simclr_jax
from simclr_jax import startup
from simclr_jax.errors import DivergedError, FailedError, RequestError, StoppedError


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        return run(argv)
    except (RequestError, DivergedError, StoppedError, FailedError) as error:
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        # One line, even if a value in it has several.
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


def run(argv: list[str]) -> int:
    """Does what the command line asks for, or raises an exception."""
    from simclr_jax.config import command_line, help

    recipes = Path(__file__).with_name("configs")
    if len(argv) < 2:
        print(help.usage(recipes), file=sys.stderr, end="")
        return RequestError.exit_code
    flags = command_line.read(argv)
    if flags.help:
        print(
            help.fields(flags.recipe) if flags.recipe else help.usage(recipes), end=""
        )
        return 0
    if flags.version:
        print(f"simclr_jax {simclr_jax.__version__}")
        return 0
    request = command_line.request(flags)
    if request.sweep:
        from simclr_jax.sweep import run as sweep

        sweep.run_request(request, argv)
    else:
        train(request.config, request.workdir)
    return 0


def train(config: Any, workdir: str) -> None:
    """Checks the request, then runs the stages that are not done yet.

    It imports late, so that a wrong request is rejected before Orbax is loaded.
    """
    from simclr_jax.config.validate import validate
    from simclr_jax.experiment import workdir as workdir_lib

    validate(config)
    workdir_lib.check(workdir, config)

    from simclr_jax.stages import run as stages

    stages.run(config, workdir)


if __name__ == "__main__":
    startup.stop_at_once()
    startup.keep_stderr()
    startup.require_packages()
    startup.use_huge_pages()
    startup.set_cpu_flags()
    startup.set_compilation_cache()
    startup.filter_stderr()
    from simclr_jax.signals import catch_signals

    catch_signals()
    sys.exit(main(sys.argv))
