"""The text of `--help`: how to start a run, or every field of a recipe.

It answers in a fraction of a second because it does not import jax. The meaning of a
field is its comment in `defaults.py`.
"""

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from simclr_jax.config import defaults, recipes
from simclr_jax.config.fields import every_field, flatten
from simclr_jax.config.stages import STAGES

_WIDTH, _COLUMN = 88, 36
_USAGE = """\
usage: {program} --config=RECIPE --workdir=FOLDER [--config.FIELD=VALUE ...]

Trains an image encoder without labels, then measures its features with kNN, a linear
probe and fine-tuning on a few labels. The same command continues an interrupted run.
Start with: {program} --config=demo --workdir=runs/demo

recipes (--config=NAME, or a file of your own; a variant comes after a colon, as in
cifar10:moco; the first one listed is the default)
{recipes}

stages (--config.stages names those to run, in order)
{stages}

fields
  --config.epochs=5 --config.optimizer.lr=0.0003 --config.stages=pretrain,knn
  --help --config=RECIPE lists every field: its value in that recipe and its meaning

sweeps (many runs of one recipe, one table)
  --sweep          run every row of the recipe's sweep() with every seed
  --seeds=0,1,2    the seeds; these are the default
  --index=I        run only point I
  --table          run nothing; collect the finished points in a table

several processes (one run on many machines; docs/cluster.md)
  --distributed    jax finds the others: Slurm, Open MPI or Kubernetes
  --coordinator=HOST:PORT --processes=N --process=I
                   by hand: process 0's address, how many, and which one this is
  --heartbeat=100  seconds without a sign after which a process counts as dead

commands (RUN: a workdir or its encoder.safetensors; COMMAND --help shows the flags)
  embed RUN IMAGES     write the features of images
  predict RUN IMAGES   name the classes of images, by a network trained on labels
  export RUN FILE      write the encoder for PyTorch, ONNX Runtime or jax

--version prints the version

exit codes: 0 done, 1 the machine failed, 2 the request is wrong, 3 the training
diverged, 75 stopped by a signal, 134 another process of a distributed run died
"""


def usage(program: Sequence[str]) -> str:
    """How to start a run, with the shipped recipes and the stages.

    Args:
      program: see `startup.program`.
    """
    lines = []
    for recipe in recipes.shipped():
        lines.append(f"  {recipe.path.stem}: {recipe.about}")
        if recipe.variants:
            lines.append(f"      {', '.join(f':{name}' for name in recipe.variants)}")
    stages = [f"  {stage.name:<11} {stage.about}" for stage in STAGES.values()]
    return _USAGE.format(
        program=" ".join(program),
        recipes="\n".join(lines),
        stages="\n".join(stages),
    )


def fields(recipe: str) -> str:
    """Every field with its value in a recipe, its default and its meaning.

    Raises:
      RequestError: the recipe can't be loaded.
    """
    values, meanings = dict(flatten(recipes.load(recipe))), comments()
    default = every_field()
    text = (
        f"The fields of {recipe}. Change one with --config.FIELD=VALUE.\n"
        "unset: the code's own default, which the meaning names.\n"
    )
    last = ""
    # The fields without a section first, then section by section.
    for path in sorted(default, key=lambda path: (path.rpartition(".")[0], path)):
        section = path.rpartition(".")[0]
        if section != last:
            about = meanings.get(section, "")
            text += f"\n{_wrapped(f'{section}: {about}' if about else section)}"
            last = section
        value = values[path]
        line = f"  {path} = {_shown(value)}"
        if value != default[path]:
            line += f" (default {_shown(default[path])})"
        text += _beside(line, meanings.get(path, ""))
    return text


def _beside(line: str, meaning: str) -> str:
    """Puts the meaning in a second column, below the line if that is too long."""
    right = textwrap.wrap(meaning, _WIDTH - _COLUMN)
    if len(line) >= _COLUMN:
        right.insert(0, "")
    rows = zip_longest([line], right, fillvalue="")
    return "".join(f"{f'{one:<{_COLUMN}}{other}'.rstrip()}\n" for one, other in rows)


def _shown(value: object) -> str:
    return "unset" if value is None else repr(value)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH) + "\n"


def comments() -> dict[str, str]:
    """The meaning of each field and section, by its path."""
    source = Path(defaults.__file__).read_text()
    tree = ast.parse(source)
    functions = {x.name: x for x in tree.body if isinstance(x, ast.FunctionDef)}
    return _of_function("get_config", functions, _by_line(source))


def _by_line(source: str) -> dict[int, tuple[str, bool]]:
    """Each line's comment, and whether the line has nothing else."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line.lstrip().startswith("#")
            found[token.start[0]] = (token.string.lstrip("# "), alone)
    return found


def _of_function(
    name: str,
    functions: dict[str, ast.FunctionDef],
    lines: dict[int, tuple[str, bool]],
) -> dict[str, str]:
    """The meanings of the fields that a function, and those it calls, set."""
    found: dict[str, str] = {}
    for statement in functions[name].body:
        path = _path(statement)
        for called in _calls(statement, functions):
            nested = _of_function(called, functions, lines)
            prefix = f"{path}." if path else ""
            found |= {f"{prefix}{leaf}": text for leaf, text in nested.items()}
        text = " ".join(_around(statement, lines))
        if path and text:
            found[path] = text
    return found


def _path(statement: ast.stmt) -> str:
    """`optimizer.lr` of `config.optimizer.lr = ...`; "" of anything else."""
    if not isinstance(statement, ast.Assign):
        return ""
    return ast.unparse(statement.targets[0]).partition(".")[2]


def _calls(statement: ast.stmt, functions: dict[str, ast.FunctionDef]) -> Iterator[str]:
    for node in ast.walk(statement):
        match node:
            case ast.Call(func=ast.Name(name)) if name in functions:
                yield name


def _around(statement: ast.stmt, lines: dict[int, tuple[str, bool]]) -> list[str]:
    """The comments right above a statement, then those on its own lines."""
    above = statement.lineno
    while lines.get(above - 1, ("", False))[1]:
        above -= 1
    assert statement.end_lineno is not None
    return [lines[i][0] for i in range(above, statement.end_lineno + 1) if i in lines]
