"""Recipes: files with a function `get_config()` or `get_config(variant)`."""

import ast
import difflib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
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
    """The config of a recipe, locked: no field can be added by accident.

    Args:
      recipe: `PATH.py[:variant]`, or the name of a shipped one: `cifar10[:variant]`.

    Raises:
      RequestError: there is no such file or variant, or its code fails.
    """
    path, colon, variant = find(recipe)
    with shipped_as_configs():
        return _load(path, colon, variant)


def _load(path: str, colon: str, variant: str) -> Config:
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


def find(recipe: str) -> tuple[str, str, str]:
    """The file of a recipe, the colon if there is one, and the variant.

    A file of one's own comes before a shipped recipe of the same name.

    Raises:
      RequestError: there is neither.
    """
    path, colon, variant = recipe.partition(":")
    if os.path.isfile(path):
        return path, colon, variant
    own = folder() / f"{path}.py"
    if path.isidentifier() and own.is_file() and _described(own):
        return str(own), colon, variant
    names = [known.path.stem for known in shipped()]
    close = difflib.get_close_matches(Path(path).stem, names, n=1, cutoff=0.75)
    meant = f"; did you mean --config={close[0]}{colon}{variant}?" if close else ""
    raise RequestError(
        f"--config: no recipe {recipe!r}{meant}; --help lists the recipes"
    )


def folder() -> Path:
    """Where the shipped recipes lie: in the package, or beside it in a clone."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"  # the wheel has the folder configs under this name
    return inside if inside.is_dir() else package.parent / "configs"


@contextmanager
def shipped_as_configs() -> Iterator[None]:
    """Lets a recipe say `from configs import common`, wherever it lies.

    Inside, `configs` is the folder of the shipped recipes. If this process has loaded
    another package of that name, as someone's notebook may, it is back afterwards.
    """
    own, loaded = str(folder()), sys.modules.get("configs")
    if own in map(str, getattr(loaded, "__path__", ())):
        yield
        return
    theirs = _take_out_configs()
    spec = importlib.util.spec_from_file_location(
        "configs", os.path.join(own, "__init__.py"), submodule_search_locations=[own]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["configs"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        yield
    finally:
        if theirs:
            _take_out_configs()
            sys.modules.update(theirs)


def _take_out_configs() -> dict[str, ModuleType]:
    """Forgets the package `configs` and what is in it; returns them."""
    names = [name for name in sys.modules if name.partition(".")[0] == "configs"]
    return {name: sys.modules.pop(name) for name in names}


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


def shipped() -> Iterator[Recipe]:
    """The shipped recipes, sorted by name. It reads the files, but runs none."""
    yield from filter(None, map(_described, sorted(folder().glob("*.py"))))


def _described(path: Path) -> Recipe | None:
    """None for a file that defines no `get_config`: it is no recipe."""
    tree = ast.parse(path.read_text())
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == "get_config":
            about = (ast.get_docstring(tree) or "").partition("\n")[0]
            return Recipe(path, about, _variants(tree, function))
    return None


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
