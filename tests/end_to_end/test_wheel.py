"""The package as pip installs it: the wheel, unpacked outside the repository."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny import ENVIRONMENT, PATIENCE, ROOT

builder = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling")
SITE = Path(pytest.__file__).parents[1]
SCRIPT = "import sys\nfrom {} import {}\nsys.exit({}())\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    built = builder.WheelBuilder(str(ROOT)).build(
        directory=str(folder), versions=["standard"]
    )
    (path,) = built
    with zipfile.ZipFile(path) as file:
        file.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def console(wheel, tmp_path_factory):
    """The script that pip makes of the wheel's entry point."""
    (text,) = [path.read_text() for path in wheel.glob("*/entry_points.txt")]
    assert text.splitlines()[0] == "[console_scripts]"
    name, _, place = text.splitlines()[1].partition(" = ")
    module, _, function = place.partition(":")
    path = tmp_path_factory.mktemp("bin") / name
    path.write_text(SCRIPT.format(module, function, function))
    return path


def run(wheel: Path, folder: Path, *words):
    """Python with the wheel in front of its packages; -S leaves out the clone, which
    a .pth file of an editable install would add."""
    return subprocess.run(
        [sys.executable, "-S", *words],
        cwd=folder,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": f"{wheel}:{SITE}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_wheel_has_the_recipes_in_the_package_and_nothing_beside_it(wheel):
    shipped = {path.name: path.read_bytes() for path in ROOT.glob("configs/*.py")}
    inside = {x.name: x.read_bytes() for x in wheel.glob("simclr_jax/recipes/*.py")}
    assert inside == shipped
    beside = {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"}
    assert beside == {"simclr_jax"}
    assert (wheel / "simclr_jax/report/page.html").is_file()


def test_the_clone_is_out_of_reach(wheel, tmp_path):
    script = "import simclr_jax; print(simclr_jax.__file__); import configs"
    done = run(wheel, tmp_path, "-c", script)
    assert done.stdout == f"{wheel / 'simclr_jax/__init__.py'}\n"
    assert "No module named 'configs'" in done.stderr


def test_help_by_a_recipes_name(wheel, console, tmp_path):
    for words, called in (
        (["-m", "simclr_jax"], "python -m simclr_jax"),
        ([console], "simclr-jax"),
    ):
        done = run(wheel, tmp_path, *words, "--config=cifar10:resnet18", "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "  encoder.depth = 18 (default 50)" in done.stdout
        done = run(wheel, tmp_path, *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"usage: {called} --config=RECIPE")
        assert "\n  demo: Three minutes" in done.stderr
        # It derives from another recipe, by `from configs import ...`.
        done = run(wheel, tmp_path, *words, "--config=random_target", "--help")
        assert done.returncode == 0, done.stderr


def test_a_missing_package_is_advised_without_a_clone(wheel, tmp_path):
    done = subprocess.run(
        [sys.executable, "-S", "-m", "simclr_jax"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    advice = "install simclr_jax with its extra: pip install 'WHEEL[train]'"
    assert done.stderr.endswith(f"has no package absl; {advice}\n")


def test_a_recipe_of_ones_own_runs_anywhere(wheel, console, npz, tmp_path):
    """It has `from configs import common`; no folder configs is there."""
    recipe = tmp_path / "mine.py"
    recipe.write_text((ROOT / "tests/tiny_recipe.py").read_text())
    flags = ["--config=mine.py", "--workdir=run", f"--config.data.path={npz}"]
    flags.append("--config.stages=pretrain,knn")
    for words in (["-m", "simclr_jax"], [console]):
        done = run(wheel, tmp_path, *words, *flags, "--config.epochs=2")
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run: everything is done already")
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["pretrain"]["step"] == 8
    assert results["command"].startswith("python -m simclr_jax --config=mine.py ")
    assert results["commit"] is None
