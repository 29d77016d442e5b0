"""TensorBoard's events, written next to metrics.jsonl if asked for."""

from pathlib import Path
from typing import Any

from simclr_jax.errors import DataError, RequestError, install, one_line


class Writer:
    """clu's writer, imported only when asked for: it loads TensorFlow.

    Writes nothing, not even its folder, before the first scalars.

    Raises:
      RequestError: TensorFlow or clu does not import.
    """

    def __init__(self, path: Path):
        from simclr_jax import data

        try:
            data.tensorflow()  # hides the GPU from TensorFlow before clu imports it
            from clu import metric_writers
        except (DataError, ImportError) as error:
            # The DataError speaks of a data set; its cause says what did not import.
            raise RequestError(
                "config.tensorboard: TensorFlow or clu does not import "
                f"({one_line(error.__cause__ or error)}); {install('train')}, or leave "
                "it False"
            ) from error

        self._create = lambda name: metric_writers.SummaryWriter(
            str(path / "tensorboard" / name)
        )
        self._writers: dict[str, Any] = {}

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        if name not in self._writers:
            self._writers[name] = self._create(name)
        scalars = {k: v for k, v in values.items() if isinstance(v, int | float)}
        self._writers[name].write_scalars(step, scalars)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.flush()
            writer.close()
