"""What is wrong with the data is told before a run, and names the field."""

import importlib.util

import numpy as np
import pytest
import tiny_recipe
from PIL import Image
from tiny import write_npz

from configs import folder
from simclr_jax import data, devices
from simclr_jax.config.stages import STAGES, Stage
from simclr_jax.errors import DataError, DivergedError, RequestError
from simclr_jax.experiment import preflight
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import Images

FIELDS = {
    "name": "config.data.name",
    "path": "config.data.path",
    "data_dir": "config.data.data_dir",
    "download": "config.data.download",
    "limit": "config.data.limit",
    "stored_size": "config.data.stored_size",
    "split": "config.data.*_split",
    "batch_size": "config.batch_size",
    "label_file": "config.finetune.label_file",
}


@pytest.mark.parametrize("argument, field", FIELDS.items())
def test_an_argument_becomes_its_field(argument, field):
    with (
        pytest.raises(RequestError) as caught,
        preflight.naming_fields(),
    ):
        raise DataError(argument, "7 is wrong; set 8")
    assert str(caught.value) == f"{field}: 7 is wrong; set 8"
    assert isinstance(caught.value.__cause__, DataError)


def test_the_field_can_be_said():
    with (
        pytest.raises(RequestError, match=r"^config\.probe\.batch_size: 7 is wrong$"),
        preflight.naming_fields(batch_size="probe.batch_size"),
    ):
        raise DataError("batch_size", "7 is wrong")


@pytest.mark.parametrize(
    "advice, setting",
    [
        ("`download=True`", "--config.data.download=True"),
        ("`data_dir`", "--config.data.data_dir"),
        ("`limit`", "config.data.limit"),
        ("`skip_damaged`", "--config.data.skip_damaged"),
        ("`label_fraction`", "config.finetune.label_fraction"),
        ("`image`", "`image`"),  # a feature of TFDS
    ],
)
def test_what_a_message_advises_becomes_what_to_type(advice, setting):
    with pytest.raises(RequestError) as caught, preflight.naming_fields():
        raise DataError("path", f"take {advice} or not")
    assert str(caught.value) == f"config.data.path: take {setting} or not"


@pytest.mark.parametrize("error", [RequestError("x"), DivergedError("x"), OSError()])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, preflight.naming_fields():
        raise error
    assert caught.value is error


def test_a_library_call_names_its_own_argument():
    with pytest.raises(
        DataError, match=r"^path: /nowhere\.npz does not exist$"
    ) as caught:
        data.load("npz", "train", path="/nowhere.npz")
    assert caught.value.argument == "path"
    assert caught.value.message == "/nowhere.npz does not exist"


def test_a_run_names_the_field(tmp_path):
    """In preflight.check, and wherever else in a run a data set fails."""
    config = tiny_recipe.get_config()
    config.data.path = str(tmp_path / "absent.npz")
    with pytest.raises(
        RequestError, match=r"^config\.data\.path: .*absent\.npz does not"
    ):
        preflight.check(config, tmp_path / "run")


def test_a_stream_that_fails_in_training_names_the_field(tmp_path, monkeypatch):
    from simclr_jax.stages import pretrain
    from simclr_jax.stages import run as stages

    def failing(experiment):
        raise DataError("data_dir", "cannot read it; `download=True`")

    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    monkeypatch.setattr(pretrain, "pretrain", failing)
    message = r"^config\.data\.data_dir: cannot read it; --config\.data\.download=True$"
    with pytest.raises(RequestError, match=message):
        stages.run(config, str(tmp_path / "run"))


def recipe(tmp_path, **fields):
    """The tiny recipe on 64 training and 40 test images."""
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    config.update_from_flattened_dict(fields)
    return config


def said(config, tmp_path) -> str:
    with pytest.raises(RequestError) as caught:
        preflight.check(config, tmp_path / "run")
    return str(caught.value)


@pytest.mark.parametrize(
    "field, value, options",
    [
        ("data.limit", 65, {"limit": 65}),
        ("data.train_split", "x", {"split": "x"}),
        ("data.test_split", "x", {"split": "x"}),
        ("data.pretrain_split", "x", {"split": "x"}),
    ],
)
def test_one_fault_has_one_text(tmp_path, field, value, options):
    """The same from the library and from a run, but for the name in front."""
    config = recipe(tmp_path, **{field: value})
    with pytest.raises(DataError) as caught:
        data.load("npz", **{"split": "train", "path": config.data.path} | options)
    assert said(config, tmp_path) == f"config.{field}: {caught.value.message}"


def test_images_of_any_size_need_one_to_store_them_at(tmp_path):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "x.png")
    fields = {"data.name": "folder", "data.test_split": "train"}
    config = recipe(tmp_path, **fields)
    config.data.path = str(tmp_path)
    with pytest.raises(DataError) as caught:
        data.load("folder", "train", path=str(tmp_path))
    expected = f"config.data.stored_size: {caught.value.message}"
    assert said(config, tmp_path) == expected


@pytest.mark.parametrize(
    "stage, field",
    [
        ("pretrain", "batch_size"),
        ("probe", "probe.batch_size"),
        ("supervised", "supervised.batch_size"),
    ],
)
def test_a_batch_larger_than_the_images_has_one_text(tmp_path, stage, field):
    """From preflight, and from the plan of a stage that knows its images exactly."""
    config = recipe(tmp_path, **{field: 65})
    message = f"65 is larger than the 64 images that {stage} trains on; lower it"
    assert said(config, tmp_path) == f"config.{field}: {message}"
    experiment = Experiment(config, None, None)  # type: ignore[arg-type]
    with pytest.raises(RequestError) as caught:
        experiment.plan(stage, 64)
    assert str(caught.value) == f"config.{field}: {message}"
    with pytest.raises(DataError) as caught:
        experiment.images.train.batches(65, seed=(0,))
    assert caught.value.message == "65 is larger than the 64 training images; lower it"


def test_the_limit_is_of_the_split_to_pretrain_on(tmp_path):
    """40 test images to pretrain on; all 64 training images keep their labels."""
    config = recipe(tmp_path, **{"data.pretrain_split": "test", "data.limit": 41})
    expected = "config.data.limit: 41 is more than the 40 images of npz test; 0 takes"
    assert said(config, tmp_path).startswith(expected)
    config.data.limit = 20
    config.probe.batch_size = 64
    preflight.check(config, tmp_path / "run")
    config.batch_size = 21
    assert "21 is larger than the 20 images" in said(config, tmp_path)


def test_fine_tuning_within_pretraining_is_checked_like_the_stage(tmp_path):
    fields = {"stages": ("pretrain",), "probe.every_epochs": 0}
    config = recipe(tmp_path, **fields, **{"finetune.batch_size": 34})
    preflight.check(config, tmp_path / "run")  # nothing is fine-tuned
    config.finetune.every_epochs = 1
    # The labels are not read yet: half of 64, if one of the 4 classes has no image, is
    # three times 11.
    expected = "config.finetune.batch_size: 34 is larger than the 33 images"
    assert said(config, tmp_path).startswith(expected)
    config.finetune.label_file = str(tmp_path / "absent.txt")
    assert said(config, tmp_path).startswith("config.finetune.label_file: ")
    with np.load(config.data.path) as archive:
        images = {k: archive[k] for k in ("train_images", "test_images")}
    np.savez(config.data.path, **images)
    assert said(config, tmp_path) == (
        "config.finetune.every_epochs: it needs labels, and npz has none; set it to 0"
    )


def test_classes_that_are_not_there_are_no_reason_to_refuse_a_batch(tmp_path):
    """Labels up to 1000, of which three are there: round(12 / 3) of each."""
    config = recipe(tmp_path, **{"finetune.every_epochs": 1, "finetune.batch_size": 12})
    config.finetune.label_fraction = 12 / 64
    arrays = dict(np.load(config.data.path))
    labels = np.array([0, 5, 1000])[np.arange(64) % 3]
    np.savez(config.data.path, **arrays | {"train_labels": labels})
    preflight.check(config, tmp_path / "run")
    assert len(Images(config, (0,)).labelled_indices("finetune")) == 12


@pytest.mark.parametrize("labels", ["", "all"])
def test_images_without_labels_run_every_stage_that_needs_none(
    tmp_path, monkeypatch, labels
):
    """A new stage is accepted or rejected by its record, not by its name."""
    monkeypatch.setitem(STAGES, "toy", Stage("toy", "a toy", labels=labels))
    config = recipe(tmp_path, **{"probe.every_epochs": 0})
    config.stages = ("pretrain", "toy", "report")
    with np.load(config.data.path) as archive:
        images = {k: archive[k] for k in ("train_images", "test_images")}
    np.savez(config.data.path, **images)
    if labels:
        expected = (
            "config.stages: toy needs labels, and npz has none; use "
            "--config.stages=pretrain,report"
        )
        assert said(config, tmp_path) == expected
    else:
        assert preflight.check(config, tmp_path / "run").num_classes == 0


def test_a_flat_folder_is_told_where_labels_come_from(tmp_path):
    """And what can be done without: the recipe's other stages, which then pass."""
    for k in range(40):
        Image.new("RGB", (8, 8), (6 * k, 0, 0)).save(tmp_path / f"{k}.png")
    config = folder.get_config("labelled")
    config.data.path, config.data.test_split = str(tmp_path), "train"
    config.probe.every_epochs = 5
    assert said(config, tmp_path) == (
        f"config.stages: knn needs labels, and the images in {tmp_path} have none; put "
        "them into folders CLASS/ or name a table in --config.data.labels; without "
        "labels use --config.stages=pretrain,report,export "
        "--config.probe.every_epochs=0"
    )
    config.stages = ("pretrain", "report", "export")
    assert said(config, tmp_path) == (
        "config.probe.every_epochs: kNN and probe need labels, and the images in "
        f"{tmp_path} have none; put them into folders CLASS/ or name a table in "
        "--config.data.labels; without labels set it to 0"
    )
    config.probe.every_epochs = 0
    config.batch_size = 8
    assert preflight.check(config, tmp_path / "run").num_classes == 0


def test_the_second_probes_batch_is_checked_if_it_runs(tmp_path):
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    config.probe.second.batch_size = 65  # of 64 images
    preflight.check(config, tmp_path / "run")
    config.probe.second.run = True
    message = r"^config\.probe\.second\.batch_size: 65 is larger than the 64 images"
    with pytest.raises(RequestError, match=message):
        preflight.check(config, tmp_path / "run")
    config.stages = ("pretrain",)
    preflight.check(config, tmp_path / "run")


def test_more_devices_than_there_are(tmp_path):
    config = recipe(tmp_path, devices=3)
    with pytest.raises(RequestError) as caught:
        preflight.check(config, tmp_path / "run")
    expected = "config.devices: 3 is more than jax finds here (2)"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "sizes, field",
    [((15, 0), "batch_size: 15"), ((18, 9), "microbatch: 9"), ((18, 6), None)],
)
def test_a_pretraining_batch_that_two_devices_do_not_divide(tmp_path, sizes, field):
    batch_size, microbatch = sizes
    config = recipe(tmp_path, batch_size=batch_size, microbatch=microbatch)
    preflight.check_shares(config)  # one device
    devices.use(2)
    try:
        if field is None:
            preflight.check_shares(config)
            return
        with pytest.raises(RequestError) as caught:
            preflight.check_shares(config)
    finally:
        devices.use(1)
    assert str(caught.value) == (
        f"config.{field} is not a multiple of the 2 devices; choose one, or set "
        "--config.devices=1"
    )


def test_parts_of_a_split_have_their_own_sizes(tmp_path):
    """64 training images: 48 to train on, 16 to test on."""
    parts = {"data.train_split": "train[:75%]", "data.test_split": "train[75%:]"}
    config = recipe(tmp_path, batch_size=48, **parts)
    config.stages = ("pretrain", "knn")
    preflight.check(config, tmp_path / "run")
    config.batch_size = 49
    assert "49 is larger than the 48 images" in said(config, tmp_path)
    config.data.test_split = "train[75%:]+tset"
    assert said(config, tmp_path).startswith(
        "config.data.test_split: npz has no split 'train[75%:]+tset'; it has train"
    )


def test_a_missing_safetensors_is_said_before_anything_runs(tmp_path, monkeypatch):
    config = recipe(tmp_path)
    preflight.check(config, tmp_path / "run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert said(config, tmp_path).startswith(
        "config.stages: export needs the package safetensors; in the clone: "
    )
    config.stages = ("pretrain",)
    preflight.check(config, tmp_path / "run")


@pytest.mark.parametrize("form, possible", [("torch", False), ("jax", True)])
def test_a_format_that_cannot_hold_the_network_is_refused(tmp_path, form, possible):
    """Before hours of pretraining, and not after them."""
    config = recipe(tmp_path)
    config.encoder.sk = True
    config.export.formats = ("safetensors", form)
    if possible:
        preflight.check(config, tmp_path / "run")
    else:
        assert said(config, tmp_path) == (
            "config.export.formats: torch can't hold a network with selective kernels "
            "(config.encoder.sk)"
        )
