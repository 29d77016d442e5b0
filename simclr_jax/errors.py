"""The ways a run can end early, each with the exit code that scripts rely on.

And a cure that several of their messages name.
"""


class RequestError(Exception):
    """The request is wrong: config, data or checkpoint. Exit code 2.

    The message is one line that names the field and the cure, for example
    `config.batch_size: 512 is larger than the 100 training images; lower it`.
    """

    exit_code = 2


class DivergedError(Exception):
    """Loss or gradient stopped being finite. Exit code 3."""

    exit_code = 3


class StoppedError(Exception):
    """A signal asked the run to stop; its state is saved. Exit code 75."""

    exit_code = 75


class FailedError(Exception):
    """Something outside of the request went wrong: a run of a sweep. Exit code 1."""

    exit_code = 1


def install(extra: str) -> str:
    """The cure for a missing package, by the extra of pyproject.toml that has it."""
    return f"in the clone: pip install -c constraints.txt '.[{extra}]'"
