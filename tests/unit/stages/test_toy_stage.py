"""A new stage is one record, one file and its rows of the report."""

import json
import sys

import pytest
import tiny_recipe
from tiny import ROOT, write_npz

import launch
from simclr_jax import stages as package
from simclr_jax.config.stages import STAGES, Stage
from simclr_jax.report import table
from simclr_jax.stages import run as stages
from simclr_jax.sweep import results as sweep_results
from simclr_jax.sweep.plan import Point

RECORD = Stage("toy", "measure a kernel", 99, needs="encoder", labels="all")
FILE = """
import numpy as np


def toy(experiment):
    experiment.key("toy")  # its stream is there
    step, params, _ = experiment.pretrained
    kernel = np.asarray(params["encoder"]["stem_conv"]["kernel"])
    return {"top1": 0.25, "step": step, "norm": float(np.linalg.norm(kernel))}
"""

pytestmark = pytest.mark.usefixtures("compile_in_haste")


def rows(result, config):
    yield f"a toy of norm {result['norm']:.0f}", ""


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Adds the stage."""

    def add():
        folder = tmp_path / "stages"
        folder.mkdir()
        (folder / "toy.py").write_text(FILE)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.setitem(STAGES, "toy", RECORD)
        monkeypatch.setitem(table.ROWS, "toy", rows)

    yield add
    sys.modules.pop("simclr_jax.stages.toy", None)


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "squares.npz")


@pytest.fixture
def config(npz):
    config = tiny_recipe.get_config()
    config.data.path = str(npz)
    config.encoder.depth = 10
    config.probe.every_epochs = 0
    config.augment.jitter = config.augment.grayscale = 0.0  # less to compile
    config.max_steps = 1
    return config


def results(path):
    return json.loads((path / "results.json").read_text())


@pytest.mark.slow
def test_a_toy_stage_runs_shows_holds_and_goes_stale(add, config, tmp_path, capsys):
    add()
    pretraining, toy = tmp_path / "pretraining", tmp_path / "toy"
    config.stages = ("pretrain",)
    stages.run(config, str(pretraining))
    # Another workdir's encoder, so that max_steps, which ends both, can stay.
    config.stages, config.pretrained = ("toy",), str(pretraining)
    capsys.readouterr()
    stages.run(config, str(toy))
    first = results(toy)["toy"]
    assert first["step"] == 1
    assert first["max_steps"] == 1
    assert first["norm"] > 0
    shown = capsys.readouterr().out
    assert f"a toy of norm {first['norm']:.0f}" in shown
    assert "25.0" in shown
    point = Point("toy", 0, config, toy)
    assert sweep_results.results(point) == results(toy)

    before = (toy / "results.json").stat().st_mtime_ns
    stages.run(config, str(toy))
    assert "everything is done already" in capsys.readouterr().out
    assert (toy / "results.json").stat().st_mtime_ns == before

    go_on = config.copy_and_resolve_references()
    go_on.stages, go_on.pretrained, go_on.max_steps = ("pretrain",), "", 2
    stages.run(go_on, str(pretraining))
    capsys.readouterr()
    stages.run(config, str(toy))
    assert "everything is done already" not in capsys.readouterr().out
    second = results(toy)["toy"]
    assert second["step"] == 2
    assert second["norm"] != first["norm"]


def test_a_sweep_runs_a_stale_toy_again(add, config, tmp_path):
    add()
    config.stages = ("pretrain", "toy")
    found = {"config": json.loads(config.to_json_best_effort())}
    found["pretrain"] = {"step": 2, "max_steps": 1}
    for step, finished in ((2, True), (1, False)):
        found["toy"] = {"step": step, "max_steps": 1}
        (tmp_path / "results.json").write_text(json.dumps(found))
        result = sweep_results.results(Point("toy", 0, config, tmp_path))
        assert (result is not None) == finished


def test_the_toys_needs_are_checked_before_anything_runs(add, npz, tmp_path, capsys):
    def main():
        flags = [f"--config={ROOT}/tests/tiny_recipe.py", f"--config.data.path={npz}"]
        flags += [f"--workdir={tmp_path / 'run'}", "--config.stages=('toy',)"]
        assert launch.main(["launch.py", *flags]) == 2
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    error = main()  # before the stage is there
    assert "config.stages: ('toy',) is not a tuple of different stages" in error
    assert "probe" in error
    add()
    assert "config.stages: no pretraining checkpoint in" in main()
