"""The one entry point: it reads the flags, makes the config and runs the stages.

    python launch.py --config=configs/cifar10.py --workdir=runs/cifar10
    python launch.py --config=configs/demo.py --workdir=runs/a --config.epochs=5
    python launch.py --config=configs/small_batch.py --workdir=runs/study --sweep
    python launch.py --help [--config=configs/demo.py]

The same command continues an interrupted run. Exit codes: 0 done, 1 the machine
failed, 2 the request is wrong, 3 the training diverged, 75 stopped by a signal, 134
another process of a distributed run died.
"""

import sys
from pathlib import Path
from typing import Any

import simclr_jax
from simclr_jax import errors, startup


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    try:
        code = run(argv)
    except Exception as error:
        code, line = errors.ending(error)
        _leave(code, line, error)
        if code is None:
            raise
        print(line, file=sys.stderr)
        return code
    _leave(code)
    return code


def _leave(code: int | None, line: str = "", error: Exception | None = None) -> None:
    """Ends all processes of a run on several; see `processes.leave`."""
    # Not loaded if the run has ended before it needed jax.
    if processes := sys.modules.get("simclr_jax.processes"):
        processes.leave(code, line, error)


def run(argv: list[str]) -> int:
    """Does what the command line asks for, or raises an exception."""
    from simclr_jax import commands
    from simclr_jax.config import command_line, help

    if commands.asked(argv):
        return commands.run(argv)
    recipes = Path(__file__).with_name("configs")
    if len(argv) < 2:
        print(help.usage(recipes), file=sys.stderr, end="")
        return errors.RequestError.exit_code
    flags = command_line.read(argv)
    if flags.help:
        print(
            help.fields(flags.recipe) if flags.recipe else help.usage(recipes), end=""
        )
        return 0
    if flags.version:
        print(f"simclr_jax {simclr_jax.__version__}")
        return 0
    startup.leave_speaking_to_first(flags.process, flags.distributed)
    request = command_line.request(flags)
    if request.sweep:
        from simclr_jax.sweep import run as sweep

        _join(request.processes)
        sweep.run_request(request, argv)
    else:
        train(request.config, request.workdir, request.processes)
    return 0


def _join(arguments: dict[str, Any] | None) -> None:
    """Joins the run's other processes; see `processes.start`."""
    if arguments is not None:
        from simclr_jax import processes

        processes.start(**arguments)


def train(config: Any, workdir: str, processes: dict[str, Any] | None = None) -> None:
    """Checks the request, then runs the stages that are not done yet.

    It imports late, so that a wrong request is rejected before Orbax is loaded.
    """
    from simclr_jax.config.validate import validate
    from simclr_jax.experiment import workdir as workdir_lib

    validate(config)
    _join(processes)
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
