"""What a method is, and how to make one by its name.

A method is a file in this folder. A function with the file's name returns a `Method`:
four pure functions that close over the hyperparameters, as in an optax transformation.
Nothing is registered: a new file is a new method, and
`tests/unit/methods/test_methods.py` tests it without being changed. A file anywhere
else is a method too and is named by its path: `make("ideas/mymethod.py", encoder)`.

    params      = {"encoder", "projector"[, "predictor"]}
    model_state = {"batch_stats": {same keys}[, "target", "queue", ...]}
"""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from simclr_jax.errors import refused
from simclr_jax.heads import Projector
from simclr_jax.losses import contrastive_accuracy, l2_normalize

__all__ = [
    "Method",
    "defaults",
    "embedding_metrics",
    "embedding_std",
    "has_predictor",
    "make",
    "names",
    "problem",
]

# What make() offers to every method. A method gets those it has as parameters.
_STRUCTURE = ("projector", "predictor", "microbatch", "num_examples")

# The accuracy of this many pairs costs next to nothing in a training step.
_ACCURACY_PAIRS = 1024


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
      update: `(params, model_state, progress []) -> model_state`, called after the
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
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in files if not name.startswith("_")))


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        if why := refused(name):
            raise ValueError(f"{name}: {why}")
        return _module_at(Path(name).expanduser().resolve())
    if name not in names():
        raise ValueError(
            f"no method {name!r}; choose from {', '.join(names())}, or give the path "
            "of a .py file"
        )
    return importlib.import_module(f"{__name__}.{name}")


@cache
def _module_at(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}", path)
    assert spec is not None  # its name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _factory(name: str) -> Callable[..., Method]:
    module = _module(name)
    function = Path(name).stem
    if not hasattr(module, function):
        raise ValueError(f"{name} has no function {function!r}")
    return getattr(module, function)


def defaults(name: str) -> dict[str, Any]:
    """The options method `name` takes, each with its default."""
    parameters = inspect.signature(_factory(name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and parameter.name not in _STRUCTURE
    }


def has_predictor(name: str) -> bool:
    """Whether method `name` takes a predictor."""
    return "predictor" in inspect.signature(_factory(name)).parameters


def problem(
    name: str, batch_size: int, microbatch: int | None, **options: Any
) -> tuple[str, str] | None:
    """Checks that the batch and the options fit together, before anything is built.

    A method's file may have a check of its own, a function
    `problem(batch_size, microbatch, **options)`. Without one, everything is accepted.

    Args:
      name, microbatch, **options: as for `make`; omitted options have their defaults.
      batch_size: images in a batch.

    Returns:
      `(field of the recipe, what is wrong and what would fit)` for the first problem;
      None if there is none.
    """
    check = getattr(_module(name), "problem", None)
    return check and check(batch_size, microbatch, **(defaults(name) | options))


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
      name: one of `names()`, or the path of a .py file with a function of its name.
      encoder: called as `encoder(images, train) -> h [B, F]`.
      projector: the head on top of h; default `Projector()`.
      predictor: the head on top of z, for methods that have one; default: the
        method's own.
      microbatch: images (pairs of views) encoded at a time. The loss still sees
        all embeddings of the batch; BatchNorm normalises per micro-batch.
        None: the whole batch at once.
      num_examples: size of the data set, for methods that remember each image.
      **options: the method's own options, see `defaults(name)`.

    Raises:
      ValueError: the name is unknown (the message lists the methods), the file can't
        be loaded, or its function returns something else than a Method.
      TypeError: the method does not take an option; the message lists those it takes.
    """
    factory = _factory(name)
    accepted = defaults(name)
    for option in options:
        if option not in accepted:
            takes = ", ".join(accepted) or "none"
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
    method = factory(encoder, **structure, **options)
    if not isinstance(method, Method):
        kind = type(method).__name__
        raise ValueError(f"the function of {name} returned {kind}, not a Method")
    return method


def embedding_metrics(z_a: jax.Array, z_b: jax.Array) -> dict[str, jax.Array]:
    """Metrics that show whether the embeddings learn or collapse.

    Args:
      z_a: [B, D], projections of the first views.
      z_b: [B, D], projections of the second views.

    Returns:
      `contrastive_accuracy` among at most 1,024 pairs, and `embedding_std` of z_a.
    """
    pairs = slice(None, _ACCURACY_PAIRS)
    return {
        "contrastive_accuracy": contrastive_accuracy(z_a[pairs], z_b[pairs]),
        "embedding_std": embedding_std(z_a),
    }


def embedding_std(z: jax.Array) -> jax.Array:
    """The standard deviation over the batch of normalised embeddings, times sqrt(D).

    Args:
      z: [B, D].

    Returns:
      [], the mean over dimensions, without gradient: 1 when the embeddings fill the
      sphere evenly, 0 when they have collapsed to a point.
    """
    z = l2_normalize(jax.lax.stop_gradient(z))
    return z.std(0).mean() * z.shape[-1] ** 0.5
