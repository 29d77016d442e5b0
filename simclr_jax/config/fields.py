"""Reading a config's fields: their paths, the nearest to a wrong one, as JSON."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from simclr_jax.config import defaults

# A ConfigDict. `validate` checks its fields at run time; to a type checker each of them
# could be anything that a ConfigDict holds.
Config = Any


def flatten(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of `config` as `("optimizer.lr", 0.001)`; placeholders are None."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@cache
def every_field() -> Mapping[str, Any]:
    """Each field there is with its default: `{"optimizer.lr": 0.001, ...}`."""
    return MappingProxyType(dict(flatten(defaults.get_config())))


def similar(path: str, paths: Iterable[str]) -> str:
    """`; did you mean ...?` for a field that isn't there, "" if nothing is near."""
    leaf = path.rsplit(".", 1)[-1]
    others = [other for other in paths if other != path]
    same = [other for other in others if other.rsplit(".", 1)[-1] == leaf]
    near = same or difflib.get_close_matches(path, others, n=1)
    return f"; did you mean {min(near, key=len)}?" if near else ""


def method_options(config: Config) -> dict[str, Any]:
    """What the recipe sets of the method's options."""
    items = config.method.items()
    return {k: v for k, v in items if k != "name" and v is not None}


def to_json(config: Config) -> str:
    """`config` as config.json has it, tuples as lists."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
