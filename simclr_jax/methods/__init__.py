"""The contract every method keeps, and how one is found by its name.

A method is a file in this folder with a function of the file's name that
returns a `Method`: four pure functions with the hyperparameters closed over
(the shape of an optax transformation). Nothing is registered: a new file is a
new method, and `tests/test_methods.py` tests it on arrival.

    params      = {"encoder", "projector"[, "predictor"]}
    model_state = {"batch_stats": {same keys}[, "target", "queue", ...]}
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from simclr_jax.heads import Projector

# What make() offers to every method; a method names those it wants.
_STRUCTURE = ("projector", "predictor", "microbatch", "num_examples")


class Method(NamedTuple):
    """One way of learning from images without labels.

    Attributes:
      init: `(key, images [B, H, W, C]) -> (params, model_state)`.
      loss: `(params, model_state, key, views, index=None, features=False) ->
        (loss [], (model_state, metrics))`. `views` are two float arrays
        `[B, H, W, C]` in [0, 1] of the same B images, `index [B]` their positions
        in the data set. The returned model_state carries the new BatchNorm
        statistics. `metrics` are scalars; with `features`, metrics["h"] is the
        first view's h `[B, F]` without gradient, to be probed online.
      update: `(params, model_state, progress []) -> model_state`, after the
        optimizer; `progress` in [0, 1] is the share of training done.
      embed: `(params, model_state, images) -> {"h", "head_1", ..., "z"}`, each
        `[B, D]`, in inference mode (BatchNorm uses its running statistics).
    """

    init: Callable[..., tuple[Any, Any]]
    loss: Callable[..., tuple[Any, tuple[Any, dict[str, Any]]]]
    update: Callable[..., Any]
    embed: Callable[..., dict[str, Any]]


def names() -> tuple[str, ...]:
    """The methods found in this folder, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def _factory(name: str) -> Callable[..., Method]:
    if name not in names():
        raise ValueError(f"no method {name!r}; found: {', '.join(names())}")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def defaults(name: str) -> dict[str, Any]:
    """The options method `name` takes, each with its default."""
    parameters = inspect.signature(_factory(name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and parameter.name not in _STRUCTURE
    }


def make(
    name: str,
    encoder: nn.Module,
    *,
    projector: nn.Module | None = None,
    predictor: nn.Module | None = None,
    microbatch: int | None = None,
    num_examples: int | None = None,
    **options: Any,
) -> Method:
    """Builds a method.

    Args:
      name: one of `names()`.
      encoder: called as `encoder(images, train) -> h [B, F]`.
      projector: the head behind h; default `Projector()`.
      predictor: the head behind z, for the methods that have one.
      microbatch: images (pairs of views) encoded at a time. The loss still sees
        all embeddings of the batch; BatchNorm normalises per micro-batch.
        Default None: the whole batch at once.
      num_examples: size of the data set, for methods that remember each image.
      **options: the method's own, see `defaults(name)`.

    Raises:
      ValueError: unknown name; the message lists the methods found.
      TypeError: an option the method does not take; the message lists its own.
    """
    factory = _factory(name)
    known = defaults(name)
    for option in options:
        if option not in known:
            takes = ", ".join(known) or "none"
            raise TypeError(f"{name} takes no option {option!r}; it takes: {takes}")
    offered = {
        "projector": Projector() if projector is None else projector,
        "predictor": predictor,
        "microbatch": microbatch,
        "num_examples": num_examples,
    }
    wanted = inspect.signature(factory).parameters
    if predictor is not None and "predictor" not in wanted:
        raise TypeError(f"{name} has no predictor")
    structure = {key: value for key, value in offered.items() if key in wanted}
    return factory(encoder, **structure, **options)
