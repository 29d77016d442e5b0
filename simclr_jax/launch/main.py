"""Reads the flags, makes the config and runs the stages; or runs another command.

    simclr-jax --config=cifar10 --workdir=runs/cifar10
    simclr-jax --config=demo --workdir=runs/a --config.epochs=5
    simclr-jax --config=small_batch --workdir=runs/study --sweep
    simclr-jax --help [--config=demo]

The same command continues an interrupted run. Exit codes: 0 done, 1 the machine
failed, 2 the request is wrong, 3 the training diverged, 75 stopped by a signal, 134
another process of a distributed run died.
"""

import sys
from collections.abc import Collection
from typing import Any

import simclr_jax
from simclr_jax import errors, startup
from simclr_jax.launch import early, streams


def start() -> int:
    """Runs this process's command line; returns the exit code.

    First comes what must be set before jax is imported, in an order that matters.
    """
    early.stop_at_once()
    streams.keep_stderr()
    streams.print_any_name()
    startup.require_packages()
    startup.use_huge_pages()
    startup.set_cpu_flags()
    startup.set_compilation_cache()
    streams.filter_stderr()
    from simclr_jax.signals import catch_signals

    catch_signals()
    return early.end_with(main(sys.argv))


def main(argv: list[str]) -> int:
    """Runs the command line `argv`; returns the exit code."""
    try:
        code = run(argv)
    except Exception as error:
        code, line = errors.ending(error)
        _leave(code, line, error)
        if code is None:
            raise
        # The damaged files of a folder, where a line has no room for all.
        for detail in getattr(error.__cause__, "lines", ()):
            print(detail, file=sys.stderr)
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
    program = startup.program(argv)
    if len(argv) < 2:
        print(help.usage(program), file=sys.stderr, end="")
        return errors.RequestError.exit_code
    flags = command_line.read(argv)
    if flags.help:
        text = help.fields(flags.recipe) if flags.recipe else help.usage(program)
        print(text, end="")
        return 0
    if flags.version:
        print(f"simclr_jax {simclr_jax.__version__}")
        return 0
    startup.leave_speaking_to_first(flags.process, flags.distributed)
    request = command_line.request(flags)
    for note in request.notes:
        print(note, file=sys.stderr)
    if request.sweep:
        from simclr_jax.sweep import run as sweep

        _join(request.processes)
        sweep.run_request(request, argv)
    else:
        train(request.config, request.workdir, request.processes, request.given)
    return 0


def _join(arguments: dict[str, Any] | None) -> None:
    """Joins the run's other processes; see `processes.start`."""
    if arguments is not None:
        from simclr_jax import processes

        processes.start(**arguments)


def train(
    config: Any,
    workdir: str,
    processes: dict[str, Any] | None = None,
    given: Collection[str] | None = None,
) -> None:
    """Checks the request, then runs the stages that are not done yet.

    It imports late, so that a wrong request is rejected before Orbax is loaded.

    Args:
      config: what it leaves unset is set, see `config.sizes`.
      processes: the arguments of `processes.start`; None: one process.
      given: see `stages.run`.
    """
    from simclr_jax.config.validate import validate
    from simclr_jax.experiment import workdir as workdir_lib

    validate(config)
    _join(processes)
    for note in workdir_lib.settle(workdir, config):
        print(note, file=sys.stderr)
    workdir_lib.check(workdir, config)

    from simclr_jax.stages import run as stages

    stages.run(config, workdir, given)
