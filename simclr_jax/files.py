"""Files that a reader finds whole: the old one or the new one, never a part."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """A file to write into; it takes the place of `path` at the end.

    If something fails, `path` stays as it was. ~ is the home folder.

    Raises:
      OSError: it can't be written; names `path`. The error of a full disk names none.
    """
    path = Path(path).expanduser()
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


def replace(path: str | os.PathLike, text: str) -> None:
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
        if error.errno is None:  # a library's own
            raise OSError(f"cannot write {path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
