"""The weights that `config.init_from` names, from which a run begins.

Pretraining starts there. Where none runs, the workdir keeps them in `start/`, and the
other stages find them there, as step 0 of a pretraining.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from simclr_jax import checkpoint, data, processes
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import having
from simclr_jax.encoders import ResNet
from simclr_jax.errors import RequestError
from simclr_jax.experiment import saved
from simclr_jax.experiment.workdir import checkpoints, pretraining_folder
from simclr_jax.export import weights
from simclr_jax.heads import Projector
from simclr_jax.networks import Network

_MADE_OF = ("depth", "width", "sk", "stem")


class Start(NamedTuple):
    """Weights that fit the recipe.

    Attributes:
      params, batch_stats: `{"encoder": ...}`, and "projector" where it fits; NumPy.
      said: one line on where they come from and what stays fresh.
    """

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    said: str


def needed(config: Config, workdir: Path) -> bool:
    """Whether the run has to read them: a workdir that has begun does without."""
    if not config.init_from:
        return False
    if "pretrain" in config.stages:
        return not checkpoint.steps(checkpoints(workdir, "pretrain"))
    if not set(config.stages) & having(needs="encoder"):
        return False
    return not checkpoint.steps(pretraining_folder(config, workdir))


def serves(config: Config) -> bool:
    """Whether the stages after pretraining begin with them, because none runs."""
    return bool(config.init_from) and "pretrain" not in config.stages


@processes.agreed
def read(config: Config, info: data.Info) -> Start:
    """The weights, on process 0 for all.

    Raises:
      RequestError: they can't be read, or don't fit the recipe or the images.
    """
    path = Path(config.init_from).expanduser()
    if not path.exists():
        raise RequestError(f"config.init_from: {path} does not exist")
    if not path.is_dir() and not path.is_file():  # to open a pipe waits for ever
        raise RequestError(f"config.init_from: {path} is not a regular file")
    try:
        if path.is_dir():
            found = weights.Weights(*saved.read(path), ours=True)
        else:
            found = weights.read(path)
    except (ValueError, ImportError, OSError) as error:
        raise RequestError(f"config.init_from: {error}") from error
    _check_network(path, found.about["encoder"], config)
    channels = info.image_shape[-1]
    if found.about["channels"] != channels:
        raise RequestError(
            f"config.init_from: the encoder of {path} takes images of "
            f"{found.about['channels']} channels; those of {config.data.name} have "
            f"{channels}"
        )
    variables = _as_wanted(path, found, config)
    like = _shapes(config, channels)
    _check_shapes(path, variables, like)
    own = variables["params"].get("projector", {})
    why = _why_fresh(found.about, variables, like, config)
    names = ["encoder"] if why else ["encoder", "projector"]
    if not why and not own:  # a projector without layers
        variables = {k: {"projector": {}} | x for k, x in variables.items()}
    params, stats = (
        {name: variables[key].get(name, {}) for name in names}
        for key in ("params", "batch_stats")
    )
    step = f", step {found.about['step']}" if "step" in found.about else ""
    taken = f"the projector starts fresh: {why}" if why else "with its projector"
    return Start(params, stats, f"starting from {path}{step}; {taken}")


def begin(
    fresh: tuple[Any, Any], params: Any, batch_stats: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A method's state at step 0 with given weights in it. It is pure.

    A target network that begins as a copy of the network still does. One that begins
    otherwise (BYOL's `target_init`) stays as it is, and so do a predictor and a queue.

    Args:
      fresh: the method's random `(params, model_state)`.
      params, batch_stats: of a `Start`.
    """
    old_params, model_state = fresh
    stats = model_state["batch_stats"] | batch_stats
    target = model_state.get("target", {})
    if {"params", "batch_stats"} <= set(target):
        own, given = target["params"], {"params": params, "batch_stats": batch_stats}
        same = jax.tree.map(jnp.array_equal, own["encoder"], old_params["encoder"])
        copied = jnp.stack(jax.tree.leaves(same)).all()
        old = {name: target[name] for name in given}
        new = {name: old[name] | given[name] for name in given}
        chosen = jax.tree.map(lambda x, y: jnp.where(copied, x, y), new, old)
        model_state = model_state | {"target": target | chosen}
    return old_params | params, model_state | {"batch_stats": stats}


def keep(folder: Path, given: Start, fresh: tuple[Any, Any], meta: dict) -> None:
    """Writes them as step 0, for stages without a pretraining.

    Args:
      folder: of the step.
      fresh: `(params, model_state)` of the random network, for what stays fresh.
      meta: describes the network; see `Experiment.meta`.
    """
    params, model_state = fresh
    stats = model_state["batch_stats"]
    names = ("encoder", "projector")
    both = {name: params[name] for name in names} | given.params
    own = {name: stats[name] for name in names} | given.batch_stats
    items = {"params": both, "model_state": {"batch_stats": own}}
    checkpoint.save(folder, 0, items, meta)


def _as_wanted(path: Path, found: weights.Weights, config: Config) -> dict[str, Any]:
    """The weights, for pixels in [0, 1] if `init_normalized` says they are not."""
    if not config.init_normalized:
        return found.variables
    if found.ours:
        raise RequestError(
            f"config.init_normalized: {path} is from simclr_jax, whose networks see "
            "pixels in [0, 1]; leave it out"
        )
    if found.about["channels"] != 3:
        raise RequestError("config.init_normalized: it is for 3 channels")
    return weights.without_normalisation(found.variables)


def _check_network(path: Path, theirs: dict[str, Any], config: Config) -> None:
    own = dict(config.encoder)
    other = [name for name in _MADE_OF if theirs.get(name, own[name]) != own[name]]
    if not other:
        return
    flags = " ".join(f"--config.encoder.{name}={theirs[name]}" for name in other)
    raise RequestError(
        f"config.init_from: {path} has a {_network(theirs)}, the recipe's is a "
        f"{_network(own)}; use {flags}, or other weights"
    )


def _network(fields: dict[str, Any]) -> str:
    kernels = ", selective kernels" if fields.get("sk") else ""
    return (
        f"ResNet-{fields['depth']} (width {fields['width']:g}, stem {fields['stem']}"
        f"{kernels})"
    )


def _shapes(config: Config, channels: int) -> dict[str, Any]:
    """Of the recipe's encoder and projector: `{"params", "batch_stats"}`."""
    size = config.augment.size
    network = Network(ResNet(**config.encoder), Projector(**config.projector))
    blank = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    params, stats = jax.eval_shape(network.init, jax.random.key(0), blank)
    return {"params": params, "batch_stats": stats}


def _check_shapes(path: Path, variables: dict[str, Any], like: dict[str, Any]) -> None:
    """Raises RequestError unless every array of the encoder is there and fits."""
    for key, tree in like.items():
        wanted = _named(tree["encoder"])
        there = _named(variables[key].get("encoder", {}))
        for name in sorted(wanted.keys() | there.keys()):
            if wanted.get(name) != there.get(name):
                raise RequestError(
                    f"config.init_from: {name} of the encoder is "
                    f"{there.get(name, 'missing')} in {path}, and "
                    f"{wanted.get(name, 'missing')} in the recipe"
                )


def _why_fresh(
    about: dict[str, Any],
    variables: dict[str, Any],
    like: dict[str, Any],
    config: Config,
) -> str:
    """Why the projector can't be taken; "" if it can."""
    if "projector" not in about:
        return "the file has none"
    fields = {x: getattr(Projector(), x) for x in config.projector}
    theirs = fields | {k: v for k, v in about["projector"].items() if k in fields}
    for name, own in config.projector.items():
        if theirs[name] != own:
            return f"its {name} is {theirs[name]!r}, the recipe's {own!r}"
    for key in like:
        there = variables[key].get("projector", {})
        if _named(there) != _named(like[key]["projector"]):
            return "its shapes are others"
    return ""


def _named(tree: Any) -> dict[str, tuple[int, ...]]:
    flat: Any = flatten_dict(tree, sep=".")
    return {name: tuple(np.shape(leaf)) for name, leaf in flat.items()}
