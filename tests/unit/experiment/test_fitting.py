"""What a recipe leaves open fits small data; what someone asked for does not change."""

import numpy as np
import pytest
import tiny_recipe
from PIL import Image
from tiny import ROOT, write_npz

from simclr_jax.config import command_line
from simclr_jax.config.fields import flatten
from simclr_jax.data.reader import Info
from simclr_jax.errors import RequestError
from simclr_jax.experiment import preflight
from simclr_jax.experiment.fitting import fit_batches, fit_colours, fit_splits
from simclr_jax.experiment.images import Images
from simclr_jax.stages import run as stages


def recipe(**fields):
    config = tiny_recipe.get_config()
    config.update_from_flattened_dict(fields)
    return config


COUNTS = {"pretrain": 150, "supervised": 150, "probe": 150, "finetune": 50}


def test_a_batch_is_halved_until_it_fits():
    config = recipe(batch_size=256, **{"finetune.batch_size": 200})
    config.supervised.batch_size = 150
    assert fit_batches(config, COUNTS, ()) == [
        "batch_size 256 -> 128: there are 150 images that pretrain trains on",
        "finetune.batch_size 200 -> 50: there are 50 images that finetune trains on",
    ]
    assert (config.batch_size, config.finetune.batch_size) == (128, 50)
    assert (config.supervised.batch_size, config.probe.batch_size) == (150, 16)
    assert fit_batches(config, COUNTS, ()) == []


def test_what_was_asked_for_stays():
    config = recipe(batch_size=256)
    assert fit_batches(config, COUNTS, {"batch_size"}) == []
    assert config.batch_size == 256


def test_a_stage_that_does_not_run_is_left_alone():
    config = recipe(stages=("pretrain",), **{"supervised.batch_size": 256})
    assert fit_batches(config, COUNTS, ()) == []
    config.distill.batch_size = config.distill.label_batch_size = 256
    config.distill.label_weight = 0.5
    config.stages = ("distill",)
    config.finetune.batch_size = 64
    assert [line.partition(":")[0] for line in fit_batches(config, COUNTS, ())] == [
        "distill.batch_size 256 -> 128",
        "finetune.batch_size 64 -> 32",
        "distill.label_batch_size 256 -> 32",
    ]


@pytest.mark.parametrize(
    "microbatch, fitted",
    [
        (32, 32),  # divides 96
        (64, 32),  # the greatest common divisor
        (96, 96),  # all of them; it divides the batch
        (192, 0),  # more than there are
        (128, 32),
    ],
)
def test_micro_batches_divide_the_smaller_batch(microbatch, fitted):
    config = recipe(batch_size=768, microbatch=microbatch)
    lines = fit_batches(config, COUNTS | {"pretrain": 100}, ())
    assert (config.batch_size, config.microbatch) == (96, fitted)
    what = fitted or "the whole batch"
    said = f"microbatch {microbatch} -> {what}: batch_size is 96"
    assert lines[1:] == ([] if fitted == microbatch else [said])


def test_two_images_are_the_least():
    config = recipe(batch_size=16, stages=("pretrain",), **{"probe.every_epochs": 0})
    assert fit_batches(config, {"pretrain": 1}, ()) == []
    assert fit_batches(config, {"pretrain": 2}, ()) != []
    assert config.batch_size == 2


def test_a_method_may_refuse_the_smaller_batch():
    config = recipe(batch_size=256)
    config.method.name, config.method.queue_size = "moco", 256
    config.method.bn_groups = 8
    with pytest.raises(RequestError, match=r"^config\.\S+: .*4"):
        fit_batches(config, COUNTS | {"pretrain": 4}, ())


def test_the_check_of_a_run_says_it(tmp_path):
    """64 images; the library and a sweep, which give no fields, refuse."""
    config = recipe(batch_size=100)
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    with pytest.raises(RequestError, match=r"config\.batch_size: 100 is larger than"):
        preflight.check(config, tmp_path / "run")
    with pytest.raises(RequestError, match=r"config\.batch_size: 100 is larger than"):
        preflight.check(config, tmp_path / "run", {"batch_size"})
    found = preflight.check(config, tmp_path / "run", ()).found
    said = "batch_size 100 -> 50: there are 64 images that pretrain trains on"
    assert found == (said,)
    assert config.batch_size == 50


INFO = Info("npz", {"train": 40}, 0, (), (4, 4, 3))


def test_a_tenth_is_the_test_split_where_there_is_none():
    config = recipe()
    assert fit_splits(config, INFO, ()) == [
        "no split 'test': training on train[:90%], testing on train[90%:], a tenth "
        "drawn once for all"
    ]
    assert config.data.train_split == "train[:90%]"
    assert config.data.test_split == "train[90%:]"
    assert fit_splits(config, INFO, ()) == []


@pytest.mark.parametrize(
    "fields, given, there",
    [
        ({}, {"data.test_split"}, {"train": 40}),
        ({}, {"data.train_split"}, {"train": 40}),
        ({"data.test_split": "train"}, (), {"train": 40}),
        ({"data.test_split": "validation"}, (), {"train": 40}),
        ({"data.train_split": "train[:50%]"}, (), {"train": 40}),
        ({}, (), {"train": 40, "test": 9}),
        ({}, (), {"unlabelled": 40}),
    ],
)
def test_splits_that_stay(fields, given, there):
    config = recipe(**fields)
    before = config.data.to_dict()
    assert fit_splits(config, INFO._replace(num_examples=there), given) == []
    assert config.data.to_dict() == before


def test_class_folders_without_a_test_split(tmp_path):
    """The run of `folder.py:labelled`; who names a split gets what is there."""
    for k in range(40):
        photo = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), k, np.uint8)).save(photo)
    config = parsed(f"--config.data.path={tmp_path / 'photos'}").config
    with pytest.raises(
        RequestError, match=r"config\.data\.test_split: .* no split 'tes"
    ):
        preflight.check(config, tmp_path / "run", {"data.test_split"})
    *_, splits, batch, _, _ = preflight.check(config, tmp_path / "run", ()).found
    assert splits.startswith("no split 'test': training on train[:90%], testing on")
    assert batch == "batch_size 256 -> 32: there are 36 images that pretrain trains on"
    images = Images(config, (0,))
    assert (images.train.num_examples, images.test.num_examples) == (36, 4)
    pixels = [
        set(x.dataset["image"][:, 0, 0, 0].tolist())
        for x in (images.train, images.test)
    ]
    assert not pixels[0] & pixels[1]


@pytest.mark.parametrize("limit, warns", [(20, True), (60, False), (4, True)])
def test_a_limit_that_takes_one_class_is_said(
    tmp_path, monkeypatch, capsys, limit, warns
):
    """64 images, sorted by class; four images are of one."""
    config = recipe(**{"data.limit": limit, "probe.every_epochs": 0})
    config.stages, config.batch_size = ("pretrain",), 2
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    arrays = dict(np.load(config.data.path))
    arrays["train_labels"] = np.sort(arrays["train_labels"])
    np.savez(config.data.path, **arrays)
    monkeypatch.setattr(stages, "function", lambda _: lambda _: {"step": 1})
    monkeypatch.setattr(stages.table, "table", lambda *_: "")
    stages.run(config, str(tmp_path / "run"))
    said = (
        f"warning: data.limit takes the first {limit} images of train, which have "
        f"{1 + limit // 17} of its 4 "
        "classes; are they sorted by class? Then shuffle them\n"
    )
    assert (said in capsys.readouterr().err) == warns


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_what_needs_rgb_is_off_for_other_channels(channels):
    config = recipe(**{"augment.second.hue": 0.05, "augment.second.blur": 0.1})
    before = dict(flatten(config))
    info = INFO._replace(image_shape=(4, 4, channels))
    said = fit_colours(config, info)
    changed = {k for k, v in flatten(config) if v != before[k]}
    if channels in (1, 3):
        assert (said, changed) == ([], set())
        return
    assert said == [
        f"images of {channels} channels: saturation, hue, grayscale off, because RGB "
        "alone has colours"
    ]
    # Stages with labels crop and flip, so that nothing else is drawn there.
    names = ("saturation", "hue", "grayscale")
    assert {f"augment.{name}" for name in names} | {"augment.second.hue"} <= changed
    assert {field.rpartition(".")[2] for field in changed} == set(names)
    assert all(dict(flatten(config))[field] == 0 for field in changed)
    assert fit_colours(config, info) == []


def parsed(*flags):
    folder = f"--config={ROOT}/configs/folder.py:labelled"
    return command_line.parse(["launch.py", folder, "--workdir=x", *flags])


@pytest.mark.parametrize(
    "flags, warmup",
    [
        (["--config.epochs=2"], 0.1),  # 5 of 100 epochs
        (["--config.epochs=5"], 5.0),  # no longer than the training
        (["--config.epochs=1", "--config.optimizer.warmup_epochs=2"], 2.0),
        (["--config.max_steps=1"], 5.0),
        (["--config.finetune.epochs=1"], 5.0),
    ],
)
def test_a_warmup_shrinks_with_a_shortened_training(flags, warmup):
    request = parsed(*flags)
    assert request.config.optimizer.warmup_epochs == warmup
    said = "optimizer.warmup_epochs 5 -> 0.1: epochs is 2, not 100"
    assert request.notes == ((said,) if warmup == 0.1 else ())
    assert request.given == {flag[9:].partition("=")[0] for flag in flags}


def test_every_trainings_warmup_shrinks(tmp_path):
    (tmp_path / "own.py").write_text(
        "from configs import common\n"
        "def get_config():\n"
        "    config = common.get_config()\n"
        "    config.probe.second.optimizer.warmup_epochs = 10.0\n"
        "    return config\n"
    )
    request = command_line.parse(
        [
            *("launch.py", f"--config={tmp_path}/own.py", "--workdir=x"),
            "--config.probe.second.epochs=5",
        ]
    )
    assert request.config.probe.second.optimizer.warmup_epochs == 1.0
    assert request.notes == (
        "probe.second.optimizer.warmup_epochs 10 -> 1: probe.second.epochs is 5, not "
        "50",
    )
