"""MLflow, set by its own environment variables, `MLFLOW_TRACKING_URI` and others.

Its process alone imports this (`child`).
"""

from typing import Any

import mlflow

from simclr_jax.errors import RequestError
from simclr_jax.experiment.loggers import Run

_STATES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_PARAMS, _CHARACTERS = 100, 500  # MLflow takes so many at once, of that length


def check() -> bool:
    """True: MLflow is always on. It asks no server.

    Raises:
      RequestError: MLflow can't use its tracking URI.
    """
    try:
        mlflow.MlflowClient()
    except Exception as error:
        # Its own messages are long, and of something else where no database is known.
        raise RequestError(
            f"mlflow can't write to {mlflow.get_tracking_uri()}; set "
            "MLFLOW_TRACKING_URI to a server (http://...), or to a folder "
            "(file:///...) and MLFLOW_ALLOW_FILE_STORE=true"
        ) from error
    return True


class Service:
    """A run of MLflow. Its parameters are the recipe that it began with."""

    unsent = ""  # `write` returns when the server has the numbers

    def __init__(self, run: Run):
        # Without `id`, MLFLOW_RUN_ID and MLFLOW_EXPERIMENT_NAME count.
        active = mlflow.start_run(
            run_id=run.id,
            run_name=None if run.id else run.name,
            log_system_metrics=False,
        )
        self.id = active.info.run_id
        self.where = f"{mlflow.get_tracking_uri()}, run {self.id}"
        self._given = active.data.params

    def describe(self, fields: dict[str, Any]) -> None:
        # MLflow refuses to change a parameter.
        params = [(k, _text(v)) for k, v in fields.items() if k not in self._given]
        for begin in range(0, len(params), _PARAMS):
            mlflow.log_params(dict(params[begin : begin + _PARAMS]))

    def write(self, name: str, step: int, values: dict[str, float]) -> None:
        self._log({f"{name}/{tag}": value for tag, value in values.items()}, step)

    def summary(self, values: dict[str, float], step: int) -> None:
        self._log(values, step)

    def _log(self, values: dict[str, float], step: int) -> None:
        mlflow.log_metrics(
            {name: float(value) for name, value in values.items()},
            step=step,
            synchronous=True,
        )

    def close(self, ended: str) -> None:
        mlflow.end_run(_STATES[ended])


def _text(value: Any) -> str:
    return str(value)[:_CHARACTERS]
