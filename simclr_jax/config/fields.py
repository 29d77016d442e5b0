"""Reads a config's fields: their paths, the nearest to a wrong one, their JSON."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, reduce
from operator import getitem
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from simclr_jax.config import defaults
from simclr_jax.errors import RequestError

# A ConfigDict. Type checkers do not know the types of its fields; `validate` checks
# them at run time.
Config = Any

# What other projects call a field.
_SYNONYMS = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "wd": "weight_decay",
    "warmup": "warmup_epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "num_epochs": "epochs",
    "steps": "max_steps",
    "temp": "temperature",
    "tau": "temperature",
    "dataset": "name",
}


def flatten(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of `config` as `("optimizer.lr", 0.001)`; placeholders are None."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@cache
def every_field() -> Mapping[str, Any]:
    """All fields with their defaults: `{"optimizer.lr": 0.001, ...}`."""
    return MappingProxyType(dict(flatten(defaults.get_config())))


@cache
def every_type() -> Mapping[str, type]:
    """The type of each field: `{"optimizer.lr": float, ...}`."""
    config, types = defaults.get_config(), {}
    for path in every_field():
        *sections, leaf = path.split(".")
        types[path] = reduce(getitem, sections, config).get_type(leaf)
    return MappingProxyType(types)


def check_paths(config: Config) -> None:
    """Raises RequestError unless `config` has all fields and no others."""
    fields, given = every_field(), dict(flatten(config))
    for path in given:
        # A recipe may set options of its own method, which the defaults do not have.
        if path not in fields and not path.startswith("method."):
            raise RequestError(f"config.{path}: no such field{similar(path, fields)}")
    for path in fields:
        if path not in given:
            raise RequestError(
                f"config.{path}: the recipe lacks this field; start the recipe from "
                "configs.common.get_config()"
            )


def nearest(path: str, paths: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The field that `path` was probably meant to be; "" if none is near.

    That is a field of the same name in another section, preferably a near one, or else
    a field of a similar name.

    Args:
      cutoff: the least similarity of another name; 1 is equality.
    """
    found = list(paths)
    sections = path.split(".")
    leaf = _SYNONYMS.get(sections.pop(), path.rpartition(".")[2])

    def distance(field: str) -> tuple[int, int]:
        return len({*sections} - {*field.split(".")}), len(field)

    same = [field for field in found if field.rpartition(".")[2] == leaf]
    close = difflib.get_close_matches(path, found, n=1, cutoff=cutoff)
    return min(same, key=distance, default="") or next(iter(close), "")


def similar(path: str, paths: Iterable[str]) -> str:
    """`; did you mean ...?` for an unknown field; "" if no field is near."""
    near = nearest(path, [other for other in paths if other != path])
    return f"; did you mean {near}?" if near else ""


def method_options(config: Config) -> dict[str, Any]:
    """The method's options that the recipe sets."""
    items = config.method.items()
    return {k: v for k, v in items if k != "name" and v is not None}


def to_json(config: Config) -> str:
    """`config` as config.json has it, tuples as lists."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
