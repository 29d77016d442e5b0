"""Writes TensorBoard events next to metrics.jsonl, if `config.tensorboard` is set."""

from pathlib import Path
from typing import Any

from simclr_jax.errors import DataError, RequestError, install, one_line


class Writer:
    """clu's writer, imported only here because it loads TensorFlow.

    It creates nothing, not even its folder, before the first scalars.

    Raises:
      RequestError: TensorFlow or clu can't be imported.
    """

    def __init__(self, path: Path):
        from simclr_jax import data

        try:
            data.tensorflow()  # hides the GPU from TensorFlow before clu imports it
            from clu import metric_writers
        except (DataError, ImportError) as error:
            # The DataError is about a data set; its cause names the failed import.
            raise RequestError(
                "config.tensorboard: TensorFlow or clu can't be imported "
                f"({one_line(error.__cause__ or error)}); {install('train')}, or set "
                "it to False"
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
