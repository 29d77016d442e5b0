"""Writes a file so that a reader sees the old one or the new one, never a part."""

import contextlib
import os
from pathlib import Path


def write(path: str | os.PathLike, content: bytes | bytearray) -> None:
    """Replaces the file.

    Raises:
      OSError: it can't be written; one line names the file and the cause.
    """
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
