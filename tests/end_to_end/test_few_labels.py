"""Many images, few labels: a batch that was asked for and can't be is refused before
any training; a recipe's own is halved."""

import json
import re

import numpy as np
import pytest
from tiny import recipe, squares

import launch as launcher
from simclr_jax.stages import run as stages

LABELS = {
    # 2 of each class, the rest unlabelled; half of them is 4.
    "few": np.where(np.arange(64) < 8, np.arange(64) % 4, -1),
    # 61 of class 0 and one of each other: half in balance is 8 and 3, not 32.
    "unbalanced": np.where(np.arange(64) < 4, np.arange(64), 0),
}
REFUSED = [
    ("few", "('pretrain','probe')", "probe.batch_size: 16 is larger than the 8 images"),
    ("few", "('pretrain',)", "probe.batch_size: 16 is larger than the 8 images"),
    ("few", "('pretrain','finetune')", "finetune.batch_size: 16 is .* the 4 images"),
    ("few", "('supervised',)", "supervised.batch_size: 16 is .* the 8 images"),
    ("unbalanced", "('pretrain','finetune')", "finetune.batch_size: 16 .* 11 images"),
    (
        "unbalanced",
        "('pretrain','finetune','distill')",
        "distill.label_batch_size: 12 is larger than the 11 labelled images",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    images, _ = squares(64, 0)
    test_images, test_labels = squares(40, 1)
    for name, labels in LABELS.items():
        np.savez(
            folder / f"{name}.npz",
            train_images=images,
            train_labels=labels,
            test_images=test_images,
            test_labels=test_labels,
        )
    return folder


@pytest.mark.parametrize("data, asked, message", REFUSED)
def test_batches_are_held_against_the_labels_there_are(
    folder, tmp_path, monkeypatch, capsys, data, asked, message
):
    def train(*_):
        raise AssertionError("it trained")

    monkeypatch.setattr(stages, "function", lambda _: train)
    flags = [f"--workdir={tmp_path / 'run'}", f"--config.stages={asked}"]
    # With kNN and probe in between only where that is what fails.
    if asked != "('pretrain',)":
        flags.append("--config.probe.every_epochs=0")
    if "distill" in asked:
        flags += ["--config.finetune.batch_size=11", "--config.distill.batch_size=16"]
        flags += ["--config.distill.label_weight=0.5"]
        flags += ["--config.distill.label_batch_size=12"]
    else:
        flags += [f"--config.{message.split(':')[0]}=16"]
    request = [*recipe(folder / f"{data}.npz"), *flags]
    assert launcher.main(["launch.py", *request]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(rf"^error: config\.{message}", error), error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "data, asked, said",
    [
        ("few", "probe", "probe.batch_size 16 -> 8: there are 8 images that probe"),
        ("few", "finetune", "finetune.batch_size 16 -> 4: there are 4 images that f"),
        ("unbalanced", "finetune", "finetune.batch_size 16 -> 8: there are 11 images"),
    ],
)
def test_a_batch_that_nobody_asked_for_fits_the_labels(
    folder, tmp_path, monkeypatch, capsys, data, asked, said
):
    """The labels are read for that; what is written says what ran."""
    seen = []

    def train(experiment):
        seen.append(experiment.config[asked].batch_size)
        return {"step": 1}

    monkeypatch.setattr(stages, "function", lambda _: train)
    monkeypatch.setattr(stages, "_say_results", lambda _: None)
    flags = [*recipe(folder / f"{data}.npz"), f"--workdir={tmp_path / 'run'}"]
    flags += [f"--config.stages=pretrain,{asked}", "--config.probe.every_epochs=0"]
    assert launcher.main(["launch.py", *flags]) == 0
    error = capsys.readouterr().err
    assert said in error
    assert error.count(" -> ") == 1
    size = int(said.split(" -> ")[1].split(":")[0])
    assert seen == [size, size]
    written = json.loads((tmp_path / "run/results.json").read_text())["config"]
    assert written[asked]["batch_size"] == size
    asked_for = json.loads((tmp_path / "run/config.json").read_text())
    assert asked_for[asked]["batch_size"] == 16
    assert launcher.main(["launch.py", *flags]) == 0  # the workdir is this recipe's


def test_what_is_asked_for_is_all_that_is_checked(folder, tmp_path, monkeypatch):
    """8 labels are enough for kNN."""
    seen = []
    run = {
        "pretrain": lambda _: {"step": 1},
        "knn": lambda _: seen.append(1) or {"step": 1},
    }
    monkeypatch.setattr(stages, "function", run.__getitem__)
    flags = [*recipe(folder / "few.npz"), f"--workdir={tmp_path / 'run'}"]
    flags += ["--config.stages=('pretrain','knn')", "--config.probe.every_epochs=0"]
    monkeypatch.setattr(stages, "_say_results", lambda _: None)
    assert launcher.main(["launch.py", *flags]) == 0
    assert seen == [1]
