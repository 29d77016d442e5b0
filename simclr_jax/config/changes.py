"""The changes that a request makes to a recipe, and what follows from them."""

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

from simclr_jax.config import values
from simclr_jax.config.fields import (
    Config,
    check_paths,
    every_field,
    every_type,
    flatten,
    method_options,
    similar,
)
from simclr_jax.errors import RequestError


def fit(config: Config, changes: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Makes the changes to a recipe's config, and what follows from them.

    Args:
      changes: see `change`.

    Returns:
      Lines to show: what counts of two, which warm-ups are shorter.
    """
    epochs = _epochs(config)
    change(config, changes)
    shorter = _shorten_warmups(config, epochs, dict(changes))
    return (*_given_twice(changes), *shorter)


def _given_twice(changes: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A line for each tuple that is given twice: one might expect that both count."""
    last = dict(changes)
    for path, text in last.items():
        others = [x for name, x in changes if name == path and x != text]
        if others and every_type().get(path) is tuple:
            yield f"{path} is given twice; the last counts: {text}"


def _epochs(config: Config) -> dict[str, int]:
    """The epochs of each training: `{"": 100, "probe.": 60, ...}`."""
    fields = dict(flatten(config))
    return {
        path.removesuffix("epochs"): epochs
        for path, epochs in fields.items()
        if path.rpartition(".")[2] == "epochs"
    }


def _shorten_warmups(
    config: Config, recipes_epochs: Mapping[str, int], given: Container[str]
) -> Iterator[str]:
    """A recipe's warm-up that is longer than the training asked for shrinks with it.

    Yields:
      A line for each change.
    """
    for stage, epochs in _epochs(config).items():
        field, before = f"{stage}optimizer.warmup_epochs", recipes_epochs[stage]
        warmup = dict(flatten(config))[field]
        if field in given or not warmup > epochs or not 0 < epochs < before:
            continue
        shorter = float(f"{warmup * epochs / before:.4g}")
        reduce(getitem, stage.split(".")[:-1], config).optimizer.warmup_epochs = shorter
        why = f"{stage}epochs is {epochs}, not {before}"
        yield f"{field} {warmup:g} -> {shorter:g}: {why}"


def change(config: Config, changes: Sequence[tuple[str, str]]) -> None:
    """Sets the fields that the command line names; their order does not matter.

    Args:
      changes: `("optimizer.lr", "0.1")`, ...; the last of two counts.

    Raises:
      RequestError: there is no such field, or the value does not fit it.
    """
    check_paths(config)
    recipes_method = config.method.name
    given: dict[str, Any] = {}
    method = dict(changes).get("method.name") or recipes_method or ""
    for path, text in changes:
        given[path] = _value(config, path, text, own_method=method.endswith(".py"))
    for path, value in given.items():
        *sections, leaf = path.split(".")
        section = reduce(getitem, sections, config)
        with section.unlocked(), section.ignore_type():
            section[leaf] = value
    if "method.name" in given:
        leave_recipes_method(config, recipes_method, given)


def _value(config: Config, path: str, text: str, *, own_method: bool) -> Any:
    """A field's value from its text. With `own_method`, a file, any option is one."""
    types, fields = every_type(), every_field()
    option = path.removeprefix("method.")
    if path in types:
        kind, default = types[path], fields[path]
    elif path != option and option in config.method:  # of the recipe's own method
        default = config.method[option]
        kind = type(default) if type(default) in types.values() else None
    elif path != option and own_method:
        kind = default = None
    elif any(field.startswith(f"{path}.") for field in fields):
        within = next(field for field in fields if field.startswith(f"{path}."))
        raise RequestError(f"config.{path}: a section, not a field such as {within}")
    else:
        raise RequestError(f"config.{path}: no such field{similar(path, fields)}")
    if default is None and text == "None":
        return None
    try:
        return values.parse(text, kind)
    except ValueError as error:
        example = "" if default is None else f"; example: {default!r}"
        raise RequestError(f"config.{path}: {error}{example}") from error


def leave_recipes_method(config: Config, recipes: str, given: Container[str]) -> None:
    """Unsets the options of a recipe's own method if another method is asked for.

    The other method then uses its defaults: the `config.method.temperature` of a SimCLR
    recipe does not suit MoCo. Options on the command line stay, to be used or rejected.
    If the command line names the recipe's own method, everything stays.

    Args:
      recipes: the name of the recipe's own method.
      given: the fields on the command line, as "method.name".
    """
    from simclr_jax import methods  # jax: not for the front door

    name = config.method.name
    if name == recipes:
        return
    try:
        predictor = methods.has_predictor(name)
    except ValueError:
        return  # no such method; `validate` says so
    for option in method_options(config):
        if f"method.{option}" not in given:
            config.method[option] = None
    if not predictor and "predictor.hidden" not in given:
        config.predictor.hidden = None
