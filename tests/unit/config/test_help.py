"""The front door: how to start, what there is, what every field means."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import launch
import simclr_jax
from simclr_jax.config import help, recipes
from simclr_jax.config.fields import every_field, flatten
from simclr_jax.config.stages import STAGES

ROOT = Path(__file__).parents[3]


def test_nothing_given_is_answered_by_how_to_start(capsys):
    assert launch.main(["launch.py"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error == help.usage(["python", "launch.py"])


@pytest.mark.parametrize("flag", ["-h", "--help", "-help"])
def test_help(capsys, flag):
    assert launch.main(["launch.py", flag]) == 0
    out, error = capsys.readouterr()
    assert (out, error) == (help.usage(["python", "launch.py"]), "")


def test_version(capsys):
    assert launch.main(["launch.py", "--version"]) == 0
    assert capsys.readouterr().out == f"simclr_jax {simclr_jax.__version__}\n"


def test_the_front_door_needs_no_jax():
    """So it answers at once."""
    script = (
        "import sys; sys.modules['jax'] = None\n"
        "import launch\n"
        "flags = ['--help', '--config=configs/cifar10.py:moco']\n"
        "print(launch.main(['launch.py', *flags]), file=sys.stderr)\n"
        "print(launch.main(['launch.py', '--help']), file=sys.stderr)\n"
        "print(launch.main(['launch.py', '--lr=3']), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    wrong = "error: --lr=3: not a flag; write --config.optimizer.lr=3"
    assert done.stderr.splitlines() == ["0", "0", wrong, "2"]


def test_the_usage_has_every_recipe_and_every_stage():
    text = help.usage(["python", "launch.py"])
    names = {path.stem for path in (ROOT / "configs").glob("*.py")}
    names -= {"__init__", "common"}
    assert set(re.findall(r"^  (\w+): \S", text, re.MULTILINE)) == names
    for stage in STAGES:
        assert re.search(rf"^  {stage} +\w", text, re.MULTILINE), stage


def test_the_variants_shown_are_those_that_load():
    """The first is what the recipe's name alone gives."""
    shown = {x.path.stem: x.variants for x in recipes.shipped()}
    own = ("resnet50", "resnet18", "moco", "byol", "linear_head")
    assert shown["cifar10"] == (*own, "simsiam", "barlow", "vicreg", "dcl")
    assert shown["augmentations"] == ("cifar10", "cpu")
    assert shown["demo"] == ()
    for name, variants in shown.items():
        path = f"{ROOT}/configs/{name}.py"
        found = [recipes.load(f"{path}:{variant}").to_json() for variant in variants]
        if found:
            assert found[0] == recipes.load(path).to_json(), name


def test_help_with_a_recipe_has_every_field_with_its_value(capsys):
    recipe = f"{ROOT}/configs/cifar10.py:moco"
    assert launch.main(["launch.py", "--help", f"--config={recipe}"]) == 0
    text = capsys.readouterr().out
    values = dict(flatten(recipes.load(recipe)))
    for path, default in every_field().items():
        shown = [x for x in text.splitlines() if x.startswith(f"  {path} = ")]
        assert len(shown) == 1, path
        value = "unset" if values[path] is None else repr(values[path])
        assert shown[0].startswith(f"  {path} = {value}"), path
        assert ("(default " in shown[0]) == (values[path] != default), path
    assert "  epochs = 200 (default 100)" in text
    assert "  method.queue_size = 4096 (default unset)" in text


def test_every_field_has_a_comment():
    """A new field without one would be a riddle."""
    meanings = help.comments()
    assert [path for path in every_field() if not meanings.get(path)] == []


def test_a_comment_is_that_of_its_own_line_and_the_lines_above():
    meanings = help.comments()
    assert meanings["batch_size"].startswith("images per pretraining step")
    assert meanings["probe.optimizer.lr"] == "base learning rate, before lr_scaling"
    assert meanings["finetune.augment.flip"] == meanings["augment.second.flip"]
    assert meanings["warn_below_std"].startswith("Warn if embedding_std")
    assert meanings["knn"].startswith("A vote of the nearest")


def test_a_wrong_recipe_is_one_line(capsys):
    assert launch.main(["launch.py", "--help", "--config=nothing.py"]) == 2
    assert capsys.readouterr().err.startswith("error: --config: no recipe 'nothing.py'")


@pytest.mark.parametrize(
    "argv0, called",
    [
        ("launch.py", "python launch.py"),
        ("/env/bin/simclr-jax", "simclr-jax"),
        ("/env/site-packages/simclr_jax/__main__.py", "python -m simclr_jax"),
    ],
)
def test_the_usage_says_what_was_called(capsys, argv0, called):
    assert launch.main([argv0, "-h"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {called} --config=RECIPE --workdir=FOLDER ")
    assert f"\nStart with: {called} --config=demo " in text
