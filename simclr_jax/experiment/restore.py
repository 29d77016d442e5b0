"""The networks of a pretraining checkpoint, as the stages after it take them."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from simclr_jax import checkpoint
from simclr_jax.config.validate import Config
from simclr_jax.errors import RequestError
from simclr_jax.experiment.preflight import (
    check_network,
    no_checkpoint,
    pretraining_folder,
)

# What downstream stages take from a checkpoint.
_NETWORK = ("encoder", "projector")


class Restored(NamedTuple):
    """The newest pretraining checkpoint of a workdir or of `config.pretrained`."""

    step: int
    params: Any
    model_state: Any

    def online(self, abstract: tuple[Any, Any]) -> tuple[int, Any, Any]:
        """`(step, params, model_state)` of encoder and projector alone.

        Args:
          abstract: `(params, model_state)` with the shapes that the recipe wants.

        Raises:
          RequestError: the checkpoint has other shapes.
        """
        stats = self.model_state["batch_stats"]
        return self.step, *_network(abstract, self.params, stats)

    def target(self, abstract: tuple[Any, Any]) -> tuple[int, Any, Any]:
        """The same of the target network (a moving average: MoCo, BYOL, a memory)."""
        if "target" not in self.model_state:
            raise RequestError("config.probe.target: the checkpoint has no target")
        target = self.model_state["target"]
        found = _network(abstract, target["params"], target["batch_stats"])
        return self.step, *found


def read(config: Config, workdir: Path) -> Restored:
    """Raises RequestError: there is no checkpoint, or it is of another network."""
    directory = pretraining_folder(config, workdir)
    like = {"params": None, "model_state": None}
    restored = checkpoint.restore(directory, like)
    if restored is None:
        raise RequestError(no_checkpoint(directory))
    step, items, meta = restored
    check_network(meta, config, directory)
    return Restored(step, items["params"], items["model_state"])


def _network(abstract: tuple[Any, Any], params: Any, stats: Any) -> tuple[Any, Any]:
    """`(params, model_state)` of encoder and projector, if they have the shapes."""
    params, stats = (
        {part: matching(want[part], have, part) for part in _NETWORK}
        for want, have in (
            (abstract[0], params),
            (abstract[1]["batch_stats"], stats),
        )
    )
    return params, {"batch_stats": stats}


def matching(abstract: Any, stored: Any, name: str, where: str = "") -> Any:
    """`stored[name]` if it has the shapes of `abstract`, else a RequestError."""
    where = f"{where}.{name}".lstrip(".")
    if isinstance(abstract, dict):
        stored = stored.get(name, {})  # Orbax leaves out what is empty
        return {key: matching(abstract[key], stored, key, where) for key in abstract}
    if name not in stored:
        raise RequestError(f"config.encoder: the checkpoint has no {where}")
    stored = stored[name]
    if abstract.shape != stored.shape:
        raise RequestError(
            f"config.encoder: {where} is {stored.shape} in the checkpoint, "
            f"{abstract.shape} in the recipe"
        )
    return jnp.asarray(stored)
