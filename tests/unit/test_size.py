"""Files, functions and signatures stay small enough to be read in one go."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "launch.py", *sorted((ROOT / "simclr_jax").rglob("*.py"))]
MOST_LINES, MOST_PARAMETERS = 60, 8

LONG = set()
# Public factories: what they take are options, passed by name.
MANY = {
    "simclr_jax/data/datasets.py:load",
    "simclr_jax/methods/moco.py:moco",
    "simclr_jax/training/optimizers.py:make",
}


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


FUNCTIONS = list(functions())


def parameters(node: ast.FunctionDef) -> list[ast.arg]:
    listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in listed if argument.arg not in ("self", "cls")]


def test_functions_are_short():
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in FUNCTIONS}
    assert len(lengths) > 300
    long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES}
    assert long.keys() == LONG, long


def test_signatures_are_short():
    many = {
        name: [argument.arg for argument in parameters(node)]
        for name, node in FUNCTIONS
        if len(parameters(node)) > MOST_PARAMETERS
    }
    assert many.keys() == MANY, many
    for name, node in FUNCTIONS:
        if name in MANY:
            assert len(node.args.kwonlyargs) >= len(parameters(node)) - 2, name


@pytest.mark.parametrize("word", ["known", "rng"])
def test_no_parameter_is_called(word):
    """A schema is not handed around; a key is called `key`."""
    for name, node in FUNCTIONS:
        assert word not in [argument.arg for argument in parameters(node)], name


def test_the_root_holds_what_users_import():
    assert len(list((ROOT / "simclr_jax").glob("*.py"))) <= 12
    assert len((ROOT / "launch.py").read_text().splitlines()) <= 120
