"""Reads the commands on a page and checks each, up to where it would train."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache

from tiny import ROOT

from simclr_jax import commands
from simclr_jax.commands import embed, export, predict
from simclr_jax.config import command_line, help
from simclr_jax.config.rules import RULES
from simclr_jax.config.validate import validate
from simclr_jax.sweep import plan, recipe

# Flags of others that the text names.
FOREIGN = {"gpus-per-task", "gpus-per-node"}
FOREIGN |= {"xla_cpu_experimental_ynn_fusion_type", "xla_gpu_deterministic_ops"}
SHELL = {"if", "[", "fi", "exit", "scontrol", "seq", "rm"}
PYTHON = {"python", ".venv/bin/python"}
PARSERS = {"embed": embed.parser, "export": export.parser, "predict": predict.parser}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def inline(page) -> list[str]:
    """What stands between backticks in the text."""
    found = re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text()))
    return [" ".join(x.split()) for x in found]


def lines(text: str) -> Iterator[list[str]]:
    """The words of each command; an array's or a sequence's number is its last."""
    for line in text.replace("\\\n", " ").splitlines():
        if number := re.search(r"--array=0-(\d+)|seq 0 (\d+)", line):
            last = number[1] or number[2]
            line = line.replace("$SLURM_ARRAY_TASK_ID", last).replace("{}", last)
        words = shlex.split(line, comments=True)
        for mark in ("||", "|"):
            while mark in words:
                yield words[: words.index(mark)]
                words = words[words.index(mark) + 1 :]
        yield words


def check(words: list[str]) -> None:
    """Raises an error unless the command can be run as it stands."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    match words:
        case []:
            pass
        case [program, *_] if program in SHELL:
            pass
        case ["srun" | "mpirun" | "xargs", *rest]:
            (start,) = [i for i, word in enumerate(rest) if word in PYTHON]
            check(rest[start:])
        case ["sbatch", *rest]:
            for inner in [x for x in rest if x.startswith("--wrap=")]:
                for command in lines(inner.removeprefix("--wrap=")):
                    check(command)
        case ["simclr-jax", *rest]:
            check_launch(rest)
        case [python, "launch.py", *rest] if python in PYTHON:
            check_launch(rest)
        case [python, "-m", "simclr_jax", *rest] if python in PYTHON:
            check_launch(rest)
        case [python, "-m", "benchmarks.faults", *flags] if python in PYTHON:
            check_script("benchmarks/faults/__main__.py", flags)
        case [python, script, *flags] if python in PYTHON:
            assert script.startswith("benchmarks/")
            check_script(script, flags)
        case ["make", *targets]:
            made = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
            assert {x for x in targets if "=" not in x} <= set(made)
        case ["pip", "install" | "wheel", *rest]:
            check_pip(rest)
        case _:
            raise AssertionError(f"no rule covers {shlex.join(words)}")


def check_launch(words: list[str]) -> None:
    """The arguments of launch.py: as it reads them, up to the training."""
    if commands.asked(["launch.py", *words]):
        name, *flags = words
        flags = [word for word in flags if word != "--help"]
        assert flags == [] or PARSERS[name]().parse_args(flags)
        return
    if not words:
        return
    flags = command_line.read(["launch.py", *words])
    if flags.help:
        assert help.fields(flags.recipe or "demo")
        return
    request = command_line.request(flags)
    if not request.sweep:
        validate(request.config)
        return
    sweep, seeds = recipe.load(request.recipe), plan.seeds_of(request.seeds)
    points = plan.points(sweep, request.config, seeds, request.workdir)
    for point in points:
        validate(point.config)
    assert request.index in (None, len(points) - 1)


def check_script(script: str, flags: list[str]) -> None:
    text = (ROOT / script).read_text()
    for flag in flags:
        assert f'"{flag.partition("=")[0]}"' in text, flag


def check_pip(words: list[str]) -> None:
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def check_flags(words: list[str]) -> None:
    """Flags that stand alone in the text: they exist, and take this value."""
    changes = [word for word in words if word.startswith("--config.")]
    asked = ["launch.py", "--config=folder:labelled", "--workdir=w", *changes]
    request = command_line.parse(asked)
    for path in request.given & RULES.keys():
        value = request.config
        for name in path.split("."):
            value = value[name]
        assert RULES[path](value) is None, path
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        assert word in changes or name in known_flags() | FOREIGN, word


@cache
def known_flags() -> set[str]:
    """launch.py's own, and those of the commands."""
    made = [parser() for parser in PARSERS.values()]
    theirs = {x for parser in made for x in parser._option_string_actions}
    own = set(command_line.Flags._fields) - {"recipe", "changes"}
    return own | {"config"} | {name.removeprefix("--") for name in theirs}
