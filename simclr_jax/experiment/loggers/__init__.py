"""Where a run's numbers go besides metrics.jsonl, which stays the record.

`config.loggers` names them. Each is a file here: `tensorboard`, `wandb`, `mlflow`.
TensorBoard's events are written by the run itself. W&B and MLflow work in a process of
their own (`apart`, `child`): neither their network nor their output reaches the run.
"""

from typing import Any, NamedTuple, Protocol


def training(line: dict[str, Any]) -> str:
    """The name of the training that a line of metrics.jsonl is of."""
    return f"{line['stage']}/{line['variant']}".rstrip("/")


class Logger:
    """What a run tells a logger, in this order. What a logger leaves out does nothing.

    A training's name is STAGE or STAGE/VARIANT: "pretrain", "probe/pretrained".
    """

    def open(self) -> None:
        """Raises RequestError if the logger can't write; the workdir is untouched."""

    def begin(self, lines: list[dict[str, Any]], trainings: dict[str, int]) -> None:
        """The run has its workdir; `lines` are those of metrics.jsonl by now.

        `trainings`: of each name, which one they are of; without an entry the first.
        """

    def cut(self, name: str, step: int, number: int) -> None:
        """A training goes on from `step`; it will repeat what came after it.

        Below 0 it begins anew and is another one, as a probe of later weights: the
        `number`th of that name.
        """

    def write(self, name: str, step: int, values: dict[str, Any]) -> None:
        """What metrics.jsonl got on a step; of the values only numbers count."""

    def summary(self, values: dict[str, float], step: int) -> None:
        """The numbers of the results table, after that step of pretraining."""

    def close(self, ended: str) -> None:
        """The run is "finished", "stopped" by a signal, or has "failed".

        This does not wait: while it `sends`, it may get some time before its `end`.
        """

    def sends(self) -> bool:
        """Whether it is still busy after `close`."""
        return False

    def end(self) -> None:
        """Ends it, busy or not."""


class Run(NamedTuple):
    """What a service is told about a run.

    Attributes:
      name: the workdir's.
      folder: the workdir.
      fields: the recipe, by the fields' dotted names.
      id: by which the service knows the run; None: it is new there.
      lines: how many times the run has written to the service.
    """

    name: str
    folder: str
    fields: dict[str, Any]
    id: str | None
    lines: int


class Service(Protocol):
    """W&B or MLflow: begins a run there, or goes on with the run `Run.id`.

    It gets each number once, see `once`. Any exception ends the logger, not the run.

    Attributes:
      id: to go on with the run later.
      where: the run's address or folder, for people; "": nowhere.
      unsent: what sends the numbers that `write` took and that did not get away before
        the process was ended; "": there are none.
    """

    id: str
    where: str
    unsent: str

    def describe(self, fields: dict[str, Any]) -> None:
        """Gives the run its recipe, before the first number."""
        ...

    def write(self, name: str, step: int, values: dict[str, float]) -> None: ...

    def summary(self, values: dict[str, float], step: int) -> None: ...

    def close(self, ended: str) -> None: ...
