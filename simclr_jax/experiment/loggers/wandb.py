"""Weights & Biases, set by its own environment variables, `WANDB_PROJECT` and others.

Its process alone imports this (`child`).
"""

import os
from pathlib import Path
from typing import Any

import wandb

from simclr_jax.errors import RequestError, one_line
from simclr_jax.experiment.loggers import Run

_EXIT_CODES = {"finished": 0, "stopped": 75, "failed": 1}


def check() -> bool:
    """Whether W&B is on.

    Raises:
      RequestError: there is no API key, and the mode needs one.
    """
    try:
        # What W&B would take and drop in this mode must not count as sent. A file of
        # W&B's may set it, too.
        if wandb.setup().settings.mode == "disabled":
            return False
        # Without `verify` no server is asked; nor is anybody, for stdin is empty.
        wandb.login(verify=False)
    except wandb.Error as error:
        raise RequestError(
            f"wandb: {one_line(error)} Or set WANDB_MODE=offline"
        ) from error
    return True


class Service:
    """A run of W&B. Each training has an axis of its own, "pretrain/step".

    W&B's own step only counts what was sent: it must not fall, and trainings begin
    anew.
    """

    def __init__(self, run: Run):
        self._run: Any = wandb.init(
            id=run.id,
            resume="allow" if run.id else None,
            # W&B prefers an argument to its own variable.
            name=None if "WANDB_NAME" in os.environ else run.name,
            dir=None if "WANDB_DIR" in os.environ else run.folder,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._next = max(run.lines, self._run.step)
        self._axes: set[str] = set()
        self.id = self._run.id
        self.where = self._run.url or ""
        folder = Path(self._run.dir).parent  # not its `files`
        # `write` returns when W&B has the numbers in this folder.
        self.unsent = f"What it did not upload is in {folder}: `wandb sync {folder}`"
        if self._run.offline:
            # The parts of a continued run make one run together.
            parts = folder.parent / "offline-run-*" if run.id else folder
            self.where = f"{folder}; `wandb sync {parts}` uploads it"

    def describe(self, fields: dict[str, Any]) -> None:
        self._run.config.update(fields, allow_val_change=True)

    def write(self, name: str, step: int, values: dict[str, float]) -> None:
        axis = f"{name}/step"
        if axis not in self._axes:
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(f"{name}/*", step_metric=axis)
            self._axes.add(axis)
        named = {f"{name}/{tag}": value for tag, value in values.items()}
        self._run.log({axis: step} | named, step=self._next, commit=True)
        self._next += 1

    def summary(self, values: dict[str, float], step: int) -> None:
        self._run.summary.update(values)

    def close(self, ended: str) -> None:
        if ended == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=_EXIT_CODES[ended])
