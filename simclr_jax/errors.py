"""The ways a run can end early, each with the exit code that scripts rely on."""


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
