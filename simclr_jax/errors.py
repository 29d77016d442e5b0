"""The errors that end a run early, with the exit codes that scripts rely on.

Data sets raise a DataError; `experiment.preflight` turns it into a RequestError.
"""

import os
import sys
from pathlib import Path

# The Python versions for which constraints/ pins packages.
PINNED_PYTHONS = ("3.11", "3.12", "3.13")


class RequestError(Exception):
    """The request is wrong: config, data or checkpoint. Exit code 2.

    The message is one line that names the field and the fix, for example
    `config.batch_size: 512 is larger than the 100 training images; lower it`.
    """

    exit_code = 2


class DataError(Exception):
    """A data set can't be read as requested.

    Attributes:
      argument: the argument of `simclr_jax.data` that is wrong, as "path" or "limit".
      message: one line that says what is wrong and how to fix it. Other arguments that
        it names are in backticks, as in "run once with `download=True`".
    """

    def __init__(self, argument: str, message: str):
        super().__init__(argument, message)
        self.argument, self.message = argument, message

    def __str__(self) -> str:
        return f"{self.argument}: {self.message}"


class DivergedError(Exception):
    """The loss or gradient is no longer finite. Exit code 3."""

    exit_code = 3


class StoppedError(Exception):
    """A signal asked the run to stop; its state is saved. Exit code 75."""

    exit_code = 75


class FailedError(Exception):
    """Something outside the request failed: a run of a sweep. Exit code 1."""

    exit_code = 1


def ending(error: Exception) -> tuple[int | None, str]:
    """The exit code and the one line with which an error ends a run.

    The code is None for an error that nobody foresaw: it deserves a traceback.
    """
    if isinstance(error, RequestError | DivergedError | StoppedError | FailedError):
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        # One line, even if a value in it has several.
        return error.exit_code, f"{kind}: {' '.join(str(error).splitlines())}"
    if isinstance(error, OSError):
        return 1, f"error: {error}"
    if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error):  # XLA's
        first = str(error).splitlines()[0]
        advice = "lower config.batch_size, or set config.microbatch or config.remat"
        return 1, f"error: {first}; {advice}=True"
    return None, ""


def refused(path: str | os.PathLike) -> str:
    """Why the system takes no path like this, as a name too long; "" if it does.

    That there is no such file is no reason.
    """
    try:
        Path(path).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, RuntimeError) as error:  # a byte 0; ~ of an unknown user
        return str(error)
    return ""


def in_clone() -> bool:
    """Whether the package lies in a clone of its repository, or was installed."""
    return (Path(__file__).parents[1] / "pyproject.toml").is_file()


def install(extra: str) -> str:
    """How to install a missing package; `extra` names its extra in pyproject.toml."""
    if not in_clone():
        return f"install simclr_jax with its extra: pip install 'WHEEL[{extra}]'"
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pins = f"-c constraints/{python}.txt " if python in PINNED_PYTHONS else ""
    clone = Path(__file__).parents[1]
    own = Path(sys.prefix) == clone / ".venv"  # what make creates
    program = f"{'.venv/bin/python' if own else sys.executable} -m pip"
    return f"in the clone: {program} install {pins}-e '.[{extra}]'"


def one_line(error: object) -> str:
    """The text of an error on one line, cut to 200 characters."""
    return " ".join(str(error).split())[:200]
