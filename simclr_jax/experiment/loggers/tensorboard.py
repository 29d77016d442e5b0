"""Writes TensorBoard events into the workdir.

TensorBoard's own package writes them: without TensorFlow, which would take seconds to
import and would want the GPU.
"""

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from simclr_jax.errors import RequestError, install, one_line
from simclr_jax.experiment.loggers import Logger
from simclr_jax.files import naming


class Writer(Logger):
    """One file of events for each name, in folders of these names.

    It creates nothing, not even its folder, before the first scalars.

    Args:
      path: the workdir.
      field: which field asked for it, with what to do without it.

    Raises:
      RequestError: the package tensorboard can't be imported.
    """

    def __init__(
        self, path: Path, field: tuple[str, str] = ("tensorboard", "set it to False")
    ):
        try:
            # Modules that do not load TensorFlow, unlike those that open files by it.
            event: Any = import_module("tensorboard.compat.proto.event_pb2")
            summary: Any = import_module("tensorboard.compat.proto.summary_pb2")
            record: Any = import_module("tensorboard.summary.writer.record_writer")
        except ImportError as error:
            raise RequestError(
                f"config.{field[0]}: tensorboard can't be imported "
                f"({one_line(error)}); {install('train')}, or {field[1]}"
            ) from error

        self._event, self._summary = event.Event, summary.Summary
        self._start = event.SessionLog.START
        self._record = record.RecordWriter
        self._folder = path / "tensorboard"
        self._writers: dict[str, tuple[Path, Any]] = {}

    def cut(self, name: str, step: int, number: int = 1) -> None:
        """TensorBoard then shows no older event of a step after this one."""
        if not any((self._folder / name).glob("events.out.*")):
            return
        start = self._event(wall_time=time.time(), step=max(step, -1) + 1)
        start.session_log.status = self._start
        self._add(name, start)

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        """Writes those of the values that are numbers, under their own names."""
        scalars = [
            self._summary.Value(tag=tag, simple_value=value)
            for tag, value in values.items()
            if isinstance(value, int | float)
        ]
        summary = self._summary(value=scalars)
        self._add(name, self._event(wall_time=time.time(), step=step, summary=summary))

    def _add(self, name: str, event: Any) -> None:
        if name not in self._writers:
            self._writers[name] = self._open(self._folder / name)
        path, writer = self._writers[name]
        with naming(path):
            writer.write(event.SerializeToString())
            writer.flush()  # so that TensorBoard shows it while it trains

    def _open(self, folder: Path) -> tuple[Path, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # TensorBoard reads the files of a folder by their names, the oldest first.
        path = folder / f"events.out.tfevents.{now:.6f}.{os.getpid()}"
        writer = self._record(path.open("wb"))
        begin = self._event(wall_time=now, file_version="brain.Event:2")
        writer.write(begin.SerializeToString())
        return path, writer

    def close(self, ended: str = "finished") -> None:
        errors = []
        for path, writer in self._writers.values():
            try:
                with naming(path):
                    writer.close()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]
