"""The command line: `--config=RECIPE --workdir=FOLDER --config.FIELD=VALUE ...`.

Flags may come in any order, with one dash or two, as `--flag=value` or `--flag value`;
A flag that is True or False is `--sweep` or `--nosweep`. The last of two counts.
"""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

from simclr_jax.config import changes, joining, recipes, values
from simclr_jax.config.fields import every_field, every_type, nearest
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
    fields: list[tuple[str, str]] = []
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        name, value = _split(word, words)
        if name.startswith("config."):
            fields.append((name.removeprefix("config."), value))
            continue
        try:
            own[name] = values.parse(value, _OWN[name])
        except ValueError as error:
            raise RequestError(f"--{name}: {error}") from error
    recipe = {"recipe": own.pop("config")} if "config" in own else {}
    return Flags(**own, **recipe, changes=tuple(fields))


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
    notes = changes.fit(config, flags.changes)
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
