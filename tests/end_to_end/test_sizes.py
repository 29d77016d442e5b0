"""Training on labels sees views of pretraining's size, or those it began with."""

import json

import pytest
from tiny import ROOT, write_npz

import launch
import simclr_jax

pytestmark = pytest.mark.usefixtures("compile_in_haste")

RECIPE = """
import sys
sys.path.insert(0, {tests!r})
import tiny_recipe

def get_config():
    config = tiny_recipe.get_config()
    config.supervised.augment.size = None
    config.stages = ("supervised",)
    return config
"""


def size_in(run):
    """As config.json and the network's checkpoint have it."""
    made = json.loads((run / "config.json").read_text())
    network = simclr_jax.load(run, stage="supervised")
    assert network.config["size"] == made["supervised"]["augment"]["size"]
    return network.config["size"]


def test_a_new_run_follows_and_an_older_one_goes_on(tmp_path, capsys):
    recipe = tmp_path / "own.py"
    recipe.write_text(RECIPE.format(tests=str(ROOT / "tests")))
    data = write_npz(tmp_path / "squares.npz")
    shared = [f"--config={recipe}", f"--config.data.path={data}"]
    shared += ["--config.augment.size=24", "--config.max_steps=1"]

    def train(name, *flags):
        words = ["launch.py", *shared, f"--workdir={tmp_path / name}", *flags]
        return launch.main(words)

    assert train("new") == 0
    assert size_in(tmp_path / "new") == 24
    # With a size of its own, as each stage had.
    assert train("older", "--config.supervised.augment.size=20") == 0
    capsys.readouterr()
    assert train("older") == 0
    said = capsys.readouterr()
    assert "supervised.augment.size is 20, as when this run began" in said.err
    assert "everything is done already" in said.out
    assert size_in(tmp_path / "older") == 20
    # It also goes on training at that size.
    assert train("older", "--config.max_steps=2") == 0
    assert simclr_jax.load(tmp_path / "older", stage="supervised").config["step"] == 2
    assert size_in(tmp_path / "older") == 20
