"""Records that survive crashes, and recipes that may or may not continue."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_recipe

from configs import common
from simclr_jax.config.changes import change
from simclr_jax.config.fields import to_json
from simclr_jax.config.rules import PATHS
from simclr_jax.config.validate import validate
from simclr_jax.encoders import ResNet
from simclr_jax.errors import RequestError
from simclr_jax.experiment import restore
from simclr_jax.experiment.workdir import Workdir, check, settle
from simclr_jax.files import replace
from simclr_jax.heads import Projector
from simclr_jax.stages import run as stages


@pytest.fixture
def config():
    config = tiny_recipe.get_config()
    config.data.path = "x.npz"
    return config


@pytest.fixture
def workdir(tmp_path, config):
    opened = Workdir(tmp_path / "run", config).open()
    yield opened
    opened.close()


def test_metrics_are_cut_back_to_a_step(workdir):
    for step in (2, 4, 6):
        workdir.record("pretrain", "", step, loss=float(step))
    workdir.record("probe", "pretrained", 6, loss=0.5)
    with (workdir.path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "pretrain", "st')  # a crash in the middle of a line
    workdir.cut_metrics("pretrain", "", step=4)
    workdir.record("pretrain", "", 5, loss=5.0)
    lines = (workdir.path / "metrics.jsonl").read_text().splitlines()
    seen = [(x["stage"], x["step"]) for x in map(json.loads, lines)]
    assert seen == [("pretrain", 2), ("pretrain", 4), ("probe", 6), ("pretrain", 5)]


def test_what_is_not_finite_is_null(workdir):
    workdir.record("pretrain", "", 2, loss=float("nan"), lr=float("inf"), epoch=0.5)
    text = (workdir.path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (line,) = workdir.metrics()
    assert (line["loss"], line["lr"], line["epoch"]) == (None, None, 0.5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl"])
def test_a_full_disk_is_said_with_the_file(workdir, config, name):
    for written in (".results.json.tmp", "metrics.jsonl"):
        (workdir.path / written).symlink_to("/dev/full")
    act = {
        "results.json": lambda: workdir.add_result("knn", {}, config),
        "metrics.jsonl": lambda: workdir.record("knn", "", 1, loss=1.0),
    }[name]
    with pytest.raises(OSError, match=rf"No space .*'{workdir.path / name}'"):
        act()
    workdir.close()  # writes nothing that would fail again, without the name


def test_a_page_takes_names_in_any_encoding(tmp_path):
    replace(tmp_path / "report.html", os.fsdecode(b"caf\xe9.jpg \xc3\xa9"))
    assert (tmp_path / "report.html").read_text("utf-8") == "caf\\udce9.jpg é"


def test_forget_drops_one_variant_only(workdir):
    for variant in ("pretrained", "random_init"):
        (workdir.checkpoints("probe", variant) / "3").mkdir(parents=True)
        workdir.record("probe", variant, 3, loss=1.0)
    workdir.forget("probe", "pretrained")
    assert not workdir.checkpoints("probe", "pretrained").exists()
    assert workdir.checkpoints("probe", "random_init").exists()
    assert [x["variant"] for x in workdir.metrics()] == ["random_init"]


def test_results_carry_what_was_run(workdir, config):
    workdir.add_result("knn", {"top1": 0.5, "step": 3}, config)
    workdir.add_result("probe", {"step": 3}, config)
    results = workdir.results()
    assert results["knn"] == {"top1": 0.5, "step": 3}
    assert results["probe"] == {"step": 3}
    assert results["seed"] == 0
    assert results["config"]["encoder"]["depth"] == 10
    assert {"jax", "flax", "optax"} <= set(results["versions"])


FREE = {
    "max_steps": 5,
    "log_every": 7,
    "checkpoint.every_steps": 9,
    "eval_batch_size": 7,
    "stages": ("knn",),
    "data.data_dir": "/elsewhere",
    "tensorboard": True,
    "loggers": ("wandb", "mlflow"),
}
FIXED = {
    "seed": 1,
    "optimizer.lr": 0.5,
    "augment.crop_scale": (0.5, 1.0),
    "augment.second.blur": 0.5,
    "data.limit": 10,
    "finetune.from_layer": 1,
    "finetune.label_file": "1percent.txt",
}


def changed(config, path, value):
    *sections, leaf = path.split(".")
    target = config
    for section in sections:
        target = target[section]
    with target.unlocked():
        target[leaf] = value
    return config


def begin(workdir, kept="checkpoints"):
    """From here on there is something that another recipe must not continue."""
    (workdir.path / kept).mkdir()


@pytest.mark.parametrize("path, value", FREE.items())
def test_what_may_change_between_two_runs(workdir, config, path, value):
    begin(workdir)
    check(workdir.path, changed(config, path, value))


@pytest.mark.parametrize("path, value", FIXED.items())
@pytest.mark.parametrize("kept", ["checkpoints", "stages", "results.json"])
def test_what_makes_another_experiment(workdir, config, path, value, kept):
    begin(workdir, kept)
    with pytest.raises(RequestError, match=f"config.{path}"):
        check(workdir.path, changed(config, path, value))


def test_a_workdir_without_a_checkpoint_takes_another_recipe(workdir, config):
    """What a run did that diverged, or ran out of memory, before it saved anything."""
    workdir.record("pretrain", "", 7, loss=float("nan"))
    workdir.close()
    again = Workdir(workdir.path, changed(config, "optimizer.lr", 0.5)).open()
    made = json.loads((again.path / "config.json").read_text())
    assert made["optimizer"]["lr"] == 0.5
    assert again.metrics() == []  # else they would stay beside the new run's
    again.close()


@pytest.mark.parametrize("kept, size", [("checkpoints", 24), ("", 16)])
def test_unset_sizes_are_those_of_the_run_that_goes_on(workdir, config, kept, size):
    """If it has saved nothing, another recipe may take its workdir."""
    if kept:
        begin(workdir, kept)
    made = changed(tiny_recipe.get_config(), "supervised.augment.size", 24)
    (workdir.path / "config.json").write_text(to_json(made))
    config.stages = ("supervised",)
    lines = settle(workdir.path, changed(config, "supervised.augment.size", None))
    assert config.supervised.augment.size == size
    assert len(lines) == (size == 24)
    check(workdir.path, config)


@pytest.mark.parametrize("path", ["n" * 300, "~nobody-9/run", "a\0b"])
def test_a_path_that_check_refuses_has_no_sizes(config, path):
    """So that its message comes, and no traceback."""
    config = changed(config, "supervised.augment.size", None)
    assert settle(path, config) == []
    assert config.supervised.augment.size == 16


def test_a_damaged_recipe_has_no_sizes(workdir, config):
    begin(workdir)
    (workdir.path / "config.json").write_text("{")
    config = changed(config, "supervised.augment.size", None)
    assert settle(workdir.path, config) == []
    assert config.supervised.augment.size == 16
    with pytest.raises(RequestError, match=r"config\.json"):
        check(workdir.path, config)


def test_a_lost_recipe_does_not_let_another_one_in(workdir, config):
    """Without config.json, another seed went on with the checkpoints and exited 0."""
    begin(workdir)
    (workdir.path / "config.json").unlink()
    with pytest.raises(RequestError, match=r"checkpoints, but no config\.json"):
        check(workdir.path, config)
    # results.json has the recipe too.
    made = {"config": json.loads(to_json(config))}
    (workdir.path / "results.json").write_text(json.dumps(made))
    check(workdir.path, config)
    with pytest.raises(RequestError, match=r"config\.seed"):
        check(workdir.path, changed(config, "seed", 7))


@pytest.mark.parametrize(
    "path, why", [("n" * 300, "File name too long"), ("~nobody-9/run", "home")]
)
def test_a_workdir_that_the_system_refuses_is_named(tmp_path, config, path, why):
    path = path if path.startswith("~") else tmp_path / path
    with pytest.raises(RequestError, match=f"^--workdir: .*{why}"):
        check(path, config)


@pytest.mark.parametrize("field", [*PATHS, "method.name"])
def test_a_path_that_the_system_refuses_is_named(tmp_path, config, field):
    """Not with exit code 1: the machine is sound."""
    change(config, [(field, str(tmp_path / ("n" * 300 + ".py")))])
    with pytest.raises(RequestError, match=f"^config.{field}: .*File name too long"):
        validate(config)


@pytest.mark.parametrize("folder", ["checkpoints", "start", "stages/a/b/checkpoints"])
def test_what_a_killed_run_left_is_deleted_when_the_next_begins(
    tmp_path, config, folder
):
    left = tmp_path / folder / "100.old.tmp"
    (left / "arrays").mkdir(parents=True)
    (left.parent / "200.damaged").mkdir()
    (tmp_path / "config.json").write_text(to_json(config))
    Workdir(tmp_path, config).open().close()
    assert [x.name for x in left.parent.iterdir()] == ["200.damaged"]


@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_a_pipe_is_not_waited_for(workdir, config, name):
    begin(workdir)
    (workdir.path / name).unlink(missing_ok=True)
    os.mkfifo(workdir.path / name)
    with pytest.raises(RequestError, match=f"{name}: not a regular file"):
        check(workdir.path, config)


def test_a_workdir_is_read_only_until_it_is_opened(tmp_path, config):
    assert Workdir(tmp_path / "run", config).results() == {}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, cure",
    [("config.json", "use another --workdir"), ("results.json", "delete it and .*")],
)
@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_damaged_record_is_named(workdir, config, name, cure, text):
    begin(workdir)
    (workdir.path / name).write_text(text)
    damaged = rf"^--workdir: can't read {workdir.path / name}: .*; {cure}$"
    with pytest.raises(RequestError, match=damaged) as error:
        check(workdir.path, config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, wrong",
    [
        ('{"knn": 3}', "knn is not a JSON object"),
        ('{"knn": {"top1": "high"}}', "knn.top1 is not a number"),
        ('{"probe": {"pretrained": [1]}}', "probe.pretrained is not a JSON object"),
        (
            '{"probe": {"second": {"random_init": {"top1": {}}}}}',
            "probe.second.random_init.top1 is not a number",
        ),
        ('{"probe": {"layers": {"h": 0.5}, "second": 1}}', "probe.second is not a"),
    ],
)
def test_results_of_another_shape_are_refused(workdir, config, text, wrong):
    (workdir.path / "results.json").write_text(text)
    with pytest.raises(RequestError, match=rf"results.json: {wrong}.*; delete it"):
        check(workdir.path, config)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[1]",
        b"3",
        b'{"a": 1}',
        b'{"stage": "probe", "step": "3"}',
        b'{"stage": 1, "variant": "", "step": 3}',
        b"[" * 100_000,
        b"\x85",
        b'"\xe2\x80\xa8',  # a line separator of Unicode, which ends no line here
    ],
)
def test_lines_that_nobody_recorded_are_left_out(workdir, line):
    workdir.record("pretrain", "", 2, loss=1.0)
    with (workdir.path / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n")
    workdir.record("pretrain", "", 4, loss=2.0)
    assert [x["step"] for x in workdir.metrics()] == [2, 4]
    workdir.cut_metrics("pretrain", "", step=3)
    lines = (workdir.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(x)["step"] for x in lines] == [2]


def test_a_result_without_its_max_steps_does_not_hold(workdir, config):
    (workdir.path / "results.json").write_text('{"supervised": {"loss": 1}}')
    run: Any = SimpleNamespace(
        config=config, workdir=workdir, fingerprints=lambda test: {}
    )
    assert not stages.result_holds(run, "supervised")
    (workdir.path / "results.json").write_text('{"supervised": {"max_steps": 0}}')
    assert stages.result_holds(run, "supervised")


def test_tensorboard_that_is_not_installed_is_refused(tmp_path, config, monkeypatch):
    # Importing it is an ImportError.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    config.tensorboard = True
    with pytest.raises(RequestError, match=r"^config\.tensorboard: .*\[train\]"):
        Workdir(tmp_path / "new", config)
    config.tensorboard, config.loggers = False, ("tensorboard",)
    with pytest.raises(RequestError, match=r"^config\.loggers: .*leave tensorboard"):
        Workdir(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("loggers, field", [(("tensorboard",), False), ((), True)])
def test_both_fields_ask_for_tensorboard(tmp_path, config, loggers, field):
    pytest.importorskip("tensorboard")
    config.loggers, config.tensorboard = loggers, field
    workdir = Workdir(tmp_path / "run", config).open()
    workdir.record("pretrain", "", 2, loss=1.0)
    workdir.close()
    assert list((tmp_path / "run/tensorboard/pretrain").glob("events.out.*"))


def test_a_second_run_on_one_workdir_is_refused(workdir, config):
    with pytest.raises(RequestError, match="another run"):
        Workdir(workdir.path, config).open()


def test_a_workdir_older_than_a_field_was_made_with_its_default(workdir, config):
    begin(workdir)
    path = workdir.path / "config.json"
    made = json.loads(path.read_text())
    del made["warn_below_std"]
    del made["probe"]["features"]
    del made["finetune"]["label_file"]
    path.write_text(json.dumps(made))
    check(workdir.path, config)
    config.probe.features = "z"
    message = "config.probe.features: .* was made with 'h', not 'z'"
    with pytest.raises(RequestError, match=message):
        check(workdir.path, config)


def test_a_checkpoint_older_than_a_field_was_made_with_its_default():
    config = common.get_config()
    meta = {name: dict(config[name]) for name in ("encoder", "projector")}
    del meta["encoder"]["sk"]
    del meta["projector"]["last_norm"]
    restore.check_network(meta, config, "older")
    config.projector.last_norm = False
    message = "config.projector.last_norm: .* older has True, the recipe has False"
    with pytest.raises(RequestError, match=message):
        restore.check_network(meta, config, "older")


def test_a_networks_defaults_are_the_recipes():
    """Either stands for what a checkpoint or a workdir is too old to say."""
    config = common.get_config()
    for section, network in (("encoder", ResNet()), ("projector", Projector())):
        for name, value in config[section].items():
            assert getattr(network, name) == value
