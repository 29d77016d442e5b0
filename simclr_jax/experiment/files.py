"""Files that a reader finds whole: the old one or the new one, never a part."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from simclr_jax.errors import RequestError, one_line


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into; it takes the place of `path` at the end.

    If something fails, `path` stays as it was.

    Raises:
      OSError: it can't be written; names `path`. The error of a full disk names none.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with naming(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def replace(path: Path, text: str) -> None:
    """Writes text in UTF-8; see `replacing`.

    It may have names of files in another encoding: their bytes are written as \\udce9.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the path to an OSError; the error of a full disk has none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_object(
    path: Path,
    field: str,
    cure: str,
    require: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The JSON object in a file, or a RequestError that names the file.

    `require` raises ValueError if it is not the object that is expected there.
    """
    try:
        if path.exists() and not path.is_file():  # to open a pipe waits for ever
            raise ValueError("not a regular file")
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        if require:
            require(found)
    except (OSError, ValueError, RecursionError) as error:
        why = one_line(error)
        raise RequestError(f"{field}: can't read {path}: {why}; {cure}") from error
    return found
