"""Weights & Biases in its offline mode: what its own files hold afterwards."""

import json
import os
import struct
import warnings
from pathlib import Path

import pytest
import tiny_recipe

from simclr_jax.errors import RequestError
from simclr_jax.experiment.workdir import Workdir

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("wandb", reason="wandb is not installed: extra loggers")
    from wandb.proto.wandb_internal_pb2 import Record


@pytest.fixture
def config(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "photos")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = tiny_recipe.get_config()
    config.data.path, config.loggers = "x.npz", ("wandb",)
    return config


def records(path: Path):
    """The records of a .wandb file, which has LevelDB's log format."""
    data, at, parts = path.read_bytes(), 7, []  # a header of 7 bytes comes first
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header in this block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(b"".join(parts))
            parts = []


def named(items):
    """`{"a/b": value}` of W&B's key-value pairs."""
    return {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for item in items
    }


def test_a_run_and_its_continuation(config, tmp_path, capfd):
    path = tmp_path / "digits"
    workdir = Workdir(path, config).open()
    for step in (2, 4, 6):
        workdir.record("pretrain", "", step, loss=1 / step, lr=0.5)
    workdir.record("pretrain", "", 4, knn_top1=0.25)
    workdir.close("stopped")
    (path / "checkpoints").mkdir()  # of step 4: there is something to continue
    config.max_steps = 8
    workdir = Workdir(path, config).open()
    workdir.cut_metrics("pretrain", "", step=4)
    for step in (6, 8):
        workdir.record("pretrain", "", step, loss=1 / step, lr=0.5)
    workdir.record("probe", "pretrained", 1, loss=3.0)
    workdir.show_results({"knn/top1": 0.75}, 8)
    workdir.close()

    first, second = (
        list(records(next(folder.glob("run-*.wandb"))))
        for folder in sorted((path / "wandb").glob("offline-run-*"))
    )
    runs = [x.run for x in (*first, *second) if x.HasField("run")]
    assert {(x.project, x.display_name) for x in runs} == {("photos", "digits")}
    assert len({x.run_id for x in runs}) == 1
    steps = [x.history.step.num for x in (*first, *second) if x.HasField("history")]
    assert steps == list(range(6))  # W&B drops a row whose own step falls
    rows = [named(x.history.item) for x in (*first, *second) if x.HasField("history")]
    of_training = {
        name: {
            row[f"{name}/step"]: row[f"{name}/loss"]
            for row in rows
            if f"{name}/loss" in row
        }
        for name in ("pretrain", "probe/pretrained")
    }
    assert len([row for row in rows if "pretrain/loss" in row]) == 4
    lines = [json.loads(x) for x in (path / "metrics.jsonl").read_text().splitlines()]
    assert of_training["pretrain"] == {
        x["step"]: x["loss"] for x in lines if x["stage"] == "pretrain" and "loss" in x
    }
    assert of_training["probe/pretrained"] == {1: 3.0}
    axes = {x.metric.glob_name: x.metric.step_metric for x in second}
    assert axes["pretrain/*"] == "pretrain/step"
    fields = {}
    for x in second:
        fields |= named(x.config.update) if x.HasField("config") else {}
    assert (fields["encoder.depth"], fields["max_steps"]) == (10, 8)
    summary = {}
    for x in second:
        summary |= named(x.summary.update) if x.HasField("summary") else {}
    assert summary["knn/top1"] == 0.75
    assert [x.exit.exit_code for x in first if x.HasField("exit")] == [75]
    assert [x.exit.exit_code for x in second if x.HasField("exit")] == [0]
    # Only what we say ourselves: where each run is.
    said = capfd.readouterr()
    assert said.out == ""
    starts = [x.split("; `wandb sync")[0] for x in said.err.splitlines()]
    assert all(x.startswith(f"wandb: {path}/wandb/offline-run-") for x in starts)
    assert len(starts) == 2
    # The first part alone, then all of them.
    first, second = (x.split("`wandb sync ")[1] for x in said.err.splitlines())
    assert first.startswith(f"{path}/wandb/offline-run-2")
    assert second.startswith(f"{path}/wandb/offline-run-*`")


def test_a_file_of_wandbs_can_turn_it_off(config, tmp_path, monkeypatch):
    """Then nothing counts as sent."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/settings").write_text("[default]\nmode = disabled\n")
    workdir = Workdir(tmp_path / "run", config).open()
    workdir.record("pretrain", "", 2, loss=0.5)
    workdir.close()
    assert not (tmp_path / "run/loggers/wandb.json").exists()


def test_without_a_key_it_is_refused(config, tmp_path, monkeypatch):
    """And nobody is asked for one, which would wait for ever on a cluster."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(RequestError, match=r"^config\.loggers: wandb: .*wandb login"):
        Workdir(tmp_path / "run", config).open()
    assert not (tmp_path / "run").exists()
