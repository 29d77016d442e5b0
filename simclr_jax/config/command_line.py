"""The command line: `--config=RECIPE --workdir=FOLDER --config.FIELD=VALUE ...`.

Flags may come in any order, with one dash or two, as `--flag=value` or `--flag value`;
A flag that is True or False is `--sweep` or `--nosweep`. The last of two counts.
"""

import difflib
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

from simclr_jax.config import joining, recipes, values
from simclr_jax.config.fields import (
    Config,
    check_paths,
    every_field,
    every_type,
    flatten,
    method_options,
    nearest,
    similar,
)
from simclr_jax.errors import RequestError


class Flags(NamedTuple):
    """launch.py's own flags, and the fields to change, still as text."""

    recipe: str | None = None
    workdir: str = ""
    sweep: bool = False
    seeds: str | None = None
    index: int | None = None
    table: bool = False
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    heartbeat: int = 100
    help: bool = False
    version: bool = False
    changes: tuple[tuple[str, str], ...] = ()  # ("optimizer.lr", "0.1"), in order


class Request(NamedTuple):
    """What the command line asks for."""

    config: Any
    workdir: str
    recipe: str  # NAME[:variant] or PATH.py[:variant]
    sweep: bool
    seeds: str
    index: int | None
    table: bool
    # The arguments of `processes.start`; None: one process.
    processes: dict[str, Any] | None = None
    given: frozenset[str] = frozenset()  # the fields that it names
    notes: tuple[str, ...] = ()  # lines to show


# The type of each flag; --config is the recipe.
_OWN: dict[str, type] = {
    "config": str,
    "workdir": str,
    "sweep": bool,
    "seeds": str,
    "index": int,
    "table": bool,
    "distributed": bool,
    "coordinator": str,
    "processes": int,
    "process": int,
    "heartbeat": int,
    "help": bool,
    "version": bool,
}
_SEEDS = "0,1,2"


def parse(argv: Sequence[str]) -> Request:
    """What the command line asks for; `argv[0]` is the script.

    Raises:
      RequestError: the command line is wrong; the message is one line.
    """
    return request(read(argv))


def read(argv: Sequence[str]) -> Flags:
    """The flags by name. Opens no file.

    Raises:
      RequestError: a word is not a flag, or its value is missing or not of its type.
    """
    own: dict[str, Any] = {}
    changes: list[tuple[str, str]] = []
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        name, value = _split(word, words)
        if name.startswith("config."):
            changes.append((name.removeprefix("config."), value))
            continue
        try:
            own[name] = values.parse(value, _OWN[name])
        except ValueError as error:
            raise RequestError(f"--{name}: {error}") from error
    recipe = {"recipe": own.pop("config")} if "config" in own else {}
    return Flags(**own, **recipe, changes=tuple(changes))


def _split(word: str, after: list[str]) -> tuple[str, str]:
    """A flag as (name, value); the value may be the next word."""
    if not word.startswith("-"):
        raise RequestError(f"{word}: not a flag{_meant(word)}")
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    name = "help" if name == "h" else name
    kind = _kind(name)
    switch = _kind(name.removeprefix("no")) in (bool, bool | str)
    if kind is None and not equals and switch:
        return name.removeprefix("no"), "False"
    if kind is None and not name.startswith("config."):
        raise RequestError(f"{word}: not a flag{_meant(word)}")
    if equals:
        return name, value
    last = not after or after[0].startswith("--")
    if kind is bool or (kind == bool | str and last):
        return name, "True"
    if last:
        raise RequestError(f"--{name}: its value is missing; write --{name}=VALUE")
    return name, after.pop(0)


def _kind(name: str) -> Any:
    """The type of a flag's value; None if there is no such flag."""
    if name in _OWN:
        return _OWN[name]
    path = name.removeprefix("config.")
    return every_type().get(path) if path != name else None


def _meant(word: str) -> str:
    """The end of a message on a wrong word: what was probably meant, `; write ...`."""
    name, equals, value = word.lstrip("-").partition("=")
    if name.partition(":")[0].endswith(".py") and not equals:
        return f"; write --config={name}"
    close = difflib.get_close_matches(name, _OWN, n=1, cutoff=0.75)
    field = nearest(name.removeprefix("config."), every_field(), cutoff=0.75)
    if field and not (close and field.rpartition(".")[2] != name):
        return f"; write --config.{field}={value or 'VALUE'}"
    return f"; did you mean --{close[0]}?" if close else "; --help shows the flags"


def request(flags: Flags) -> Request:
    """Loads the recipe and makes the changes to it.

    Raises:
      RequestError: the recipe, a field or a combination of flags is wrong.
    """
    if flags.recipe is None:
        raise RequestError("--config: missing; for example --config=demo")
    config = recipes.load(flags.recipe)
    if not flags.workdir:
        raise RequestError("--workdir: missing; for example --workdir=runs/demo")
    if not flags.sweep:
        given = {
            "seeds": flags.seeds,
            "index": flags.index,
            "table": flags.table or None,
        }
        for name, value in given.items():
            if value is not None:
                raise RequestError(f"--{name}: needs --sweep")
    if flags.table and flags.index is not None:
        raise RequestError("--table: shows all points; leave --index out")
    joined = joining.arguments(flags._asdict())
    if joined is not None and flags.sweep and flags.index is None:
        raise RequestError("--sweep: several processes run one point; give --index=I")
    notes = fit(config, flags.changes)
    return Request(
        config,
        flags.workdir,
        flags.recipe,
        flags.sweep,
        _SEEDS if flags.seeds is None else flags.seeds,
        flags.index,
        flags.table,
        joined,
        frozenset(path for path, _ in flags.changes),
        notes,
    )


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
