"""What a command line asks for: a recipe with overrides, and launch.py's own flags."""

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from simclr_jax.config import validate as config_lib
from simclr_jax.config.fields import every_field, similar
from simclr_jax.errors import RequestError


class Request(NamedTuple):
    """What the command line asks for."""

    config: Any
    workdir: str
    recipe: str  # configs/NAME.py[:variant]
    sweep: bool
    seeds: str
    index: int | None
    table: bool


def parse(argv: list[str], about: str = "") -> Request:
    """The command line.

    Args:
      about: what `--help` says first.

    Raises:
      RequestError: whatever is wrong with it, in one line.
    """
    values = _flags(argv)
    for recipe in _recipes(argv):
        if not os.path.isfile(recipe.partition(":")[0]):
            raise RequestError(f"--config: no recipe {recipe!r}; see configs/")
    try:
        rest = values(argv)[1:]
        if values.help:
            print(
                f"{about}\n{values.get_help()}\nFields: simclr_jax/config/defaults.py"
            )
            raise SystemExit(0)
        config = values.config
    except Exception as error:  # config_flags raises whatever the recipe raised
        raise RequestError(_explain(error, argv)) from error
    if rest:
        raise RequestError(f"{rest[0]}: not a flag{_with_dashes(rest[0])}")
    if config is None:
        raise RequestError("--config: missing; for example --config=configs/demo.py")
    if not values.workdir:
        raise RequestError("--workdir: missing; for example --workdir=runs/demo")
    if not values.sweep:
        for name in ("seeds", "index", "table"):
            if values[name].present:
                raise RequestError(f"--{name}: goes with --sweep")
    if values.table and values.index is not None:
        raise RequestError("--table: collects all points; leave --index out")
    given = config_flags.get_override_values(values["config"])
    if "method.name" in given:
        recipes = str(values["config.method.name"].default)
        config_lib.leave_recipes_method(config, recipes, given)
    recipe = config_flags.get_config_filename(values["config"])
    own = (values.sweep, values.seeds, values.index, values.table)
    return Request(config, values.workdir, recipe, *own)


def _flags(argv: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The recipe, configs/NAME.py[:variant].",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", None, "The folder of this run.", flag_values=values)
    for name, meaning in (
        ("sweep", "Run every row of the recipe's sweep() with every seed."),
        ("table", "With --sweep: only collect what is finished."),
    ):
        flags.DEFINE_bool(name, False, meaning, flag_values=values)
    flags.DEFINE_string("seeds", "0,1,2", "With --sweep.", flag_values=values)
    flags.DEFINE_integer(
        "index", None, "With --sweep: run this point only.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this text.", flag_values=values)
    return values


def _recipes(argv: list[str]) -> Iterator[str]:
    """What the command line gives to --config, as `--config=X` or `--config X`."""
    for word, after in zip(argv[1:], [*argv[2:], ""], strict=True):
        match = re.fullmatch(r"--?config(?:=(.*))?", word, re.DOTALL)
        if match:
            yield after if match[1] is None else match[1]


def _explain(error: Exception, argv: list[str]) -> str:
    """One line that names the flag, of whatever absl or the recipe raised."""
    fields = every_field()
    # config_flags wraps what a recipe raises in the text of its traceback.
    text = str(error).strip()
    text = " ".join((text.splitlines()[-1] if "Traceback" in text else text).split())
    overrides = [re.match(r"--(config\.[\w.]+)(?:=(.*))?$", arg) for arg in argv[1:]]
    for match in filter(None, overrides):
        field, value = match.groups()
        path = field.removeprefix("config.")
        # The error names a section or a leaf, whichever is not there.
        lacking = isinstance(error, AttributeError | KeyError) and path not in fields
        if lacking and any(re.search(rf"\b{x}\b", text) for x in path.split(".")):
            return f"{field}: no such field{similar(path, fields)}"
        if field in text or (
            isinstance(error, TypeError | ValueError) and (value and value in text)
        ):
            return f"{field}: {value!r} does not fit the field; {text}"
    return text if text.startswith(("flag", "Unknown")) else f"--config: {text}"


def _with_dashes(word: str) -> str:
    """What `lr=3` was probably meant to be."""
    name, equals, value = word.partition("=")
    fields = every_field()
    meant = [path for path in fields if f".{path}".endswith(f".{name}")]
    shortest = min(meant, key=len, default="")
    return f"; write --config.{shortest}={value}" if equals and meant else ""
