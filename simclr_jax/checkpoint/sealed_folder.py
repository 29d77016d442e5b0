"""Numbered folders that are written whole or not at all, and that show any damage.

A folder is written as `400.tmp`, gets a record with the digest of every file, and
becomes `400` in one rename. store.py decides what the files hold.

    DIR/400/digests.json    the record; sealed with its own digest
    DIR/400.damaged         a folder that failed its check; never deleted
    DIR/400.tmp             left by a killed write; removed by the next run or write
    DIR/400.old.tmp         left by a killed deletion; likewise

One process writes into DIR at a time (`Workdir` holds the lock), and one thread of it
(`BackgroundSaver` waits for the save before).
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from simclr_jax.errors import RequestError

_RECORD = "digests.json"
_FORMAT = 1


class Damaged(Exception):
    """A folder does not hold what was written; the message says what differs."""


def begin(directory: Path, number: int) -> Path:
    """Makes an empty `NUMBER.tmp` to write into; removes what killed writes left."""
    directory.mkdir(parents=True, exist_ok=True)
    for folder in leftovers(directory):
        shutil.rmtree(folder)
    folder = directory / f"{number}.tmp"
    folder.mkdir()
    return folder


def leftovers(directory: Path) -> list[Path]:
    """What killed writes and deletions left."""
    names = os.listdir(directory)
    return [directory / x for x in names if re.fullmatch(r"[0-9]+(\.old)?\.tmp", x)]


def publish(folder: Path, content: dict[str, Any]) -> None:
    """Seals `NUMBER.tmp` with a record that includes `content`; renames it to NUMBER.

    Forces all files onto the disk before the rename, which could overtake them.
    Replaces a folder that already has the number, in two renames; a kill in the instant
    between them leaves neither folder.
    """
    final = folder.with_suffix("")
    files = {}
    for name, path in sorted(_files(folder)):
        with path.open("rb") as file:
            os.fsync(file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = [path.stat().st_size, digest]
    with (folder / _RECORD).open("wb") as file:
        file.write(seal({"number": int(final.name), "files": files} | content))
        file.flush()
        os.fsync(file)
    for parent, _, _ in os.walk(folder):
        _fsync_folder(parent)
    doomed = folder.with_name(f"{final.name}.old.tmp")
    if final.exists():
        if peek(final) is None:
            set_aside(final)
        else:
            os.rename(final, doomed)
    os.rename(folder, final)
    _fsync_folder(final.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def seal(record: dict[str, Any]) -> bytes:
    """The bytes of digests.json; TypeError or ValueError if JSON can't hold it."""
    body = json.dumps({"format": _FORMAT} | record)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{{"sha256": "{digest}", "record": {body}}}\n'.encode()


def read(folder: Path) -> dict[str, Any]:
    """The record of a folder; checks that its files are all there, in full length.

    Raises:
      Damaged: they are not, or the record itself has changed.
      RequestError: a newer version of this library wrote it.
      OSError: it can't be read.
    """
    try:
        if not stat.S_ISREG((folder / _RECORD).stat().st_mode):
            # To open a pipe would wait for ever.
            raise Damaged(f"{_RECORD} is not a regular file")
        sealed = (folder / _RECORD).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(f"{_RECORD} is missing") from error
    try:
        record = json.loads(sealed)["record"]
        # Sealed again and compared byte for byte, so no flipped bit goes unnoticed.
        intact = seal(record) == sealed
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Damaged(f"{_RECORD} is not readable") from error
    if not intact:
        raise Damaged(f"the content of {_RECORD} has changed")
    with reading_record():
        _check(folder, record)
    return record


def _check(folder: Path, record: dict[str, Any]) -> None:
    """Whether the record is of this folder and names its files in their length."""
    if record["format"] != _FORMAT:
        raise RequestError(
            f"checkpoint {folder} has format {record['format']}, this version reads "
            f"format {_FORMAT}"
        )
    if folder.name != str(record["number"]):
        raise Damaged(f"it is a copy of step {record['number']}")
    sizes = {}
    for name, path in _files(folder):
        if not path.is_file():
            raise Damaged(f"{name} is not a regular file")
        sizes[name] = path.lstat().st_size
    del sizes[_RECORD]
    for name, (size, _) in record["files"].items():
        if name not in sizes:
            raise Damaged(f"{name} is missing")
        if sizes.pop(name) != size:
            raise Damaged(f"the length of {name} has changed")
    if sizes:
        raise Damaged(f"{min(sizes)} is not one of its files")


@contextlib.contextmanager
def reading_record() -> Iterator[None]:
    """Raises Damaged where a sealed record lacks what this library writes into it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"{_RECORD} was not written by this library") from error


def verify(folder: Path, record: dict[str, Any]) -> None:
    """Raises Damaged unless every file has the content that was written."""
    for name, (_, digest) in record["files"].items():
        try:
            with (folder / name).open("rb") as file:
                intact = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError as error:
            if error.errno != errno.EIO:  # what a disk reports for a bad sector
                raise
            intact = False
        if not intact:
            raise Damaged(f"the content of {name} has changed")


def peek(folder: Path) -> dict[str, Any] | None:
    """Like `read`, but returns None if the folder is damaged or can't be read."""
    try:
        return read(folder)
    except (Damaged, OSError):
        return None


def numbers(directory: Path) -> list[int]:
    """The numbers of the folders in `directory`, whole or not, ascending."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RequestError(f"cannot read {directory}: {error.strerror}") from error
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


def records(directory: Path) -> dict[int, dict[str, Any]]:
    """The records of the folders in `directory` that are complete, ascending.

    Lists them again if another process has deleted all of them meanwhile.
    """
    while True:
        listed = numbers(directory)
        read = {number: peek(directory / str(number)) for number in listed}
        found = {number: record for number, record in read.items() if record}
        if found or numbers(directory) == listed:
            return found


def set_aside(folder: Path) -> None:
    """Renames a damaged folder, so that it is neither used nor deleted."""
    target, count = folder.with_name(f"{folder.name}.damaged"), 1
    while target.exists():
        count += 1
        target = folder.with_name(f"{folder.name}.damaged{count}")
    os.rename(folder, target)


def delete(folder: Path) -> None:
    """Deletes a folder if possible; renames it first, so a kill leaves no half."""
    doomed = folder.with_name(f"{folder.name}.old.tmp")
    with contextlib.suppress(OSError):
        os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    def fail(error: OSError) -> NoReturn:
        raise error  # otherwise os.walk skips a folder that it can't list

    for parent, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in files + links:
            path = Path(parent, name)
            yield path.relative_to(folder).as_posix(), path


def _fsync_folder(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
