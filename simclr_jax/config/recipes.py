"""Recipes: files with a function `get_config()` or `get_config(variant)`."""

import ast
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ml_collections import ConfigDict

from simclr_jax.config.fields import Config
from simclr_jax.errors import RequestError


class Recipe(NamedTuple):
    """A recipe's file, as `--help` lists it."""

    path: Path
    about: str  # the first line of its docstring
    variants: tuple[str, ...]  # the default first; () where it has none


def load(recipe: str) -> Config:
    """The config of `PATH.py[:variant]`, locked: no field can be added by accident.

    Raises:
      RequestError: there is no such file or variant, or its code fails.
    """
    path, colon, variant = recipe.partition(":")
    if not os.path.isfile(path):
        raise RequestError(f"--config: no recipe {recipe!r}; --help lists the recipes")
    try:
        function = getattr(load_module(path), "get_config", None)
        if function is None:
            raise RequestError(f"--config: {path} has no function get_config()")
        if colon and not inspect.signature(function).parameters:
            raise RequestError(
                f"--config: {path} has no variants; leave ':{variant}' out"
            )
        config = function(variant) if colon else function()
    except RequestError:
        raise
    except Exception as error:  # a recipe can raise anything
        if colon and isinstance(error, ValueError):  # no such variant
            raise RequestError(f"--config: {error}") from error
        kind = type(error).__name__
        raise RequestError(
            f"--config: {path}{_line(error, path)}: {kind}: {error}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise RequestError(
            f"--config: get_config() of {path} returns {config!r}, which is not a "
            "ConfigDict"
        )
    return config.lock()


def _line(error: Exception, path: str) -> str:
    """` line 7`: the last line of this file in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if frame.filename == path]
    return f" line {own[-1]}" if own else ""


def load_module(path: str) -> ModuleType:
    """Executes a recipe's file and returns it as the module "recipe"."""
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or spec.loader is None:
        raise RequestError(f"--config: {path} is not a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their module
    spec.loader.exec_module(module)
    return module


def shipped(folder: Path) -> Iterator[Recipe]:
    """The recipes in a folder, sorted by name. It reads the files, but runs none."""
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [x for x in tree.body if isinstance(x, ast.FunctionDef)]
        for function in functions:
            if function.name == "get_config":
                about = (ast.get_docstring(tree) or "").partition("\n")[0]
                yield Recipe(path, about, _variants(tree, function))


def _variants(tree: ast.Module, function: ast.FunctionDef) -> tuple[str, ...]:
    """The names that the file compares `variant` with, as in `variant not in NAMES`."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(ast.Name("variant"), [ast.NotIn()], [among]):
                found += [x for x in _names(tree, among) if x not in found]
    default = [x.value for x in function.args.defaults if isinstance(x, ast.Constant)]
    return tuple(sorted(found, key=lambda name: name not in default))


def _names(tree: ast.Module, node: ast.expr) -> list[str]:
    """The strings in a tuple or the keys of a dict, also through a variable's name."""
    match node:
        case ast.Name(name):
            for other in ast.walk(tree):
                match other:
                    case ast.Assign([ast.Name(target)], value) if target == name:
                        return _names(tree, value)
            return []
        case ast.Dict(keys=items) | ast.Tuple(elts=items):
            return [str(x.value) for x in items if isinstance(x, ast.Constant)]
    return []
