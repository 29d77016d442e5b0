"""Data sets of TFDS: sizes, labels, what is missing or damaged."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import ROOT
from tiny_tfds import FORMATS, SIZE, constant, taken, write_tfds

from simclr_jax import data
from simclr_jax.data import tfds_builder
from simclr_jax.data._tensorflow import resized
from simclr_jax.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    splits = {"train": range(40), "test": range(40, 53)}
    folder = tmp_path_factory.mktemp("cifar10")
    write_tfds(folder, "array_record", constant(53), splits, name="cifar10")
    return str(folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_images_of_any_size_are_stored_at_one(tmp_path, streaming):
    # A ramp of 4 per column, halved: column j of the result lies at 2j + 0.5. The
    # short side of 16 becomes 8, so 4 of the 16 columns go on either side.
    ramp = np.tile(4 * np.arange(32, dtype=np.uint8)[None, :, None], (16, 1, 3))
    folder = write_tfds(
        tmp_path, "tfrecord", [ramp, *constant(3, size=5)[1:]], {"train": range(3)}
    )
    with pytest.raises(DataError, match=r"^stored_size: .*vary"):
        data.load("tiny", "train", data_dir=str(folder))
    source = data.load(
        "tiny", "train", data_dir=str(folder), stored_size=8, streaming=streaming
    )
    assert source.image_shape == (8, 8, 3)
    (batch,) = source.ordered(3)
    images = np.asarray(taken(batch)["image"])
    for image, label in zip(images, source.labels, strict=True):
        expected = 8 * np.arange(4, 12) + 2 if label == 0 else np.repeat(label, 8)
        expected = np.broadcast_to(expected[None, :, None], (8, 8, 3))
        np.testing.assert_array_equal(image, expected)


def test_resizing_averages_and_rounds():
    # Every fourth column is 203. Sampling without antialiasing would miss it; the
    # triangle of a 4-fold reduction gives any column 203 / 4 = 50.75 inside.
    image = np.zeros((32, 32, 1), np.uint8)
    image[:, ::4] = 203
    small = resized(image, 8).numpy()
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small[:, 1:7], np.full((8, 6, 1), 51))


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (33, 33), (10, 25), (91, 40)])
def test_the_square_is_cut_from_what_tf_image_resizes(shape):
    """Only the square is computed: the same pixels, but for float32's last bit."""
    tf = data.tensorflow()
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), np.uint8)
    height, width = (round(32 * side / min(shape)) for side in shape)
    whole = tf.image.resize(pixels, (height, width), method="bilinear", antialias=True)
    top, left = (height - 32) // 2, (width - 32) // 2
    expected = whole.numpy()[:, top : top + 32, left : left + 32]
    found = resized(pixels, 32).numpy()
    assert np.abs(found - expected).max() < 0.501  # rounded to a whole number
    for one, image in zip(found, pixels, strict=True):
        np.testing.assert_array_equal(one, resized(image, 32).numpy())


def test_unlabelled_examples_have_label_minus_one(tmp_path):
    splits = {"train": range(4), "unlabelled": range(4, 8)}
    folder = write_tfds(
        tmp_path,
        "tfrecord",
        constant(8),
        splits,
        labels=lambda split, k: k if split == "train" else -1,
    )
    for streaming in (False, True):
        options = {"data_dir": str(folder), "streaming": streaming}
        unlabelled = data.load("tiny", "unlabelled", **options)
        assert (unlabelled.labels == -1).all()
        (batch,) = unlabelled.ordered(4)
        assert (np.asarray(taken(batch)["label"]) == -1).all()
        both = data.load("tiny", "train+unlabelled", **options)
        assert sorted(both.labels) == [-1, -1, -1, -1, 0, 1, 2, 3]


def test_describe(folder):
    info = data.describe("cifar10:3.0.2", data_dir=folder)
    assert info.num_examples == {"train": 40, "test": 13}
    assert info.num_classes == len(info.class_names) == 10
    assert info.image_shape == (SIZE, SIZE, 3)


def test_data_without_images_or_classes_are_refused():
    from tensorflow_datasets import features

    grey, deep = (
        features.Image(shape=(8, 8, 1), dtype=t) for t in (np.uint8, np.uint16)
    )
    for fields, message in (
        ({"text": features.Text()}, "no feature `image` .*; it has text"),
        ({"image": deep}, "no feature `image` of 8-bit"),
        ({"image": grey, "label": features.Scalar(np.int64)}, "not a class label"),
    ):
        info = SimpleNamespace(features=features.FeaturesDict(fields), splits={})
        with pytest.raises(DataError, match=rf"^name: .*{message}"):
            tfds_builder.info(SimpleNamespace(info=info), "tiny")


def test_download_happens_on_request_only(tmp_path):
    data.tensorflow()
    import tensorflow_datasets as tfds

    class Generated(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        network = False

        def _info(self):
            image = tfds.features.Image(shape=(SIZE, SIZE, 3))
            features = tfds.features.FeaturesDict({"image": image})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            if not self.network:
                raise ConnectionError("no\nroute")
            return {"train": ((k, {"image": constant(6)[k]}) for k in range(6))}

        def _generate_examples(self):
            raise NotImplementedError

    def load(**options):
        return data.load("generated", "train", data_dir=str(tmp_path), **options)

    with pytest.raises(DataError, match=r"^data_dir: no generated"):
        load()
    failed = r"^download: preparing generated failed: no route$"
    with pytest.raises(DataError, match=failed):
        load(download=True)
    Generated.network = True
    source = load(download=True)
    assert source.num_examples == 6
    assert source.num_classes == 0
    np.testing.assert_array_equal(source.labels, [-1] * 6)


def test_gpus_are_hidden_from_tensorflow(monkeypatch):
    hidden = []
    config = data.tensorflow().config
    assert config.get_visible_devices("GPU") == []
    monkeypatch.setattr(config, "set_visible_devices", lambda *a: hidden.append(a))
    data.tensorflow.__wrapped__()
    assert hidden == [([], "GPU")]


@pytest.mark.parametrize("streaming", [False, True])
def test_no_pass_waits_for_the_tuner_at_its_end(folder, streaming, monkeypatch):
    # tf.data joins its tuner's thread at the end of a pass, for up to two seconds.
    tf, tuned = data.tensorflow(), []

    def spy(dataset):
        tuned.append(dataset.options().autotune.enabled)
        return iterated(dataset)

    iterated = tf.data.Dataset.as_numpy_iterator
    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", spy)
    source = data.load("cifar10", "train", data_dir=folder, streaming=streaming)
    list(source.ordered(16))
    assert len(source.labels) == 40
    assert set(tuned) == {False}


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("cifar1", {}, r"name: 'cifar1' .*did you mean cifar10 or"),
        ("cifar10:9.9.9", {}, r"name: .*only: 3\.0\.2"),
        ("no such name!", {}, r"name: 'no such name!'"),
        ("stl10", {}, r"data_dir: no stl10 in .*download=True"),
        ("cifar10", {"split": "val"}, r"split: .*train, test"),
        ("cifar10", {"limit": 41}, r"limit: 41 is more than the 40 images"),
        ("cifar10", {"limit": -1}, r"limit: -1"),
        ("cifar10", {"stored_size": -2}, r"stored_size: -2"),
    ],
)
def test_wrong_requests_are_one_line(folder, name, options, message):
    options = {"split": "train", "data_dir": folder} | options
    with pytest.raises(DataError, match="^" + message) as error:
        data.load(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_files_are_named(tmp_path, kind, damage):
    folder = write_tfds(tmp_path, kind, constant(12), {"train": range(12)})
    file = sorted(folder.rglob(f"*train.{kind}-*"))[1]
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
        with pytest.raises(DataError, match=rf"lacks the file {file.name}"):
            data.describe("tiny", data_dir=str(folder))
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"^data_dir: ") as error:
        data.load("tiny", "train", data_dir=str(folder))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_tensorflow_says_nothing_beside_the_error(tmp_path):
    """Importing jax sets a log level of its own, at which TensorFlow warns."""
    folder = write_tfds(tmp_path, "tfrecord", constant(12), {"train": range(12)})
    file = next(folder.rglob("*train.tfrecord-*1-of*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    script = (
        "import os, sys, jax\n"
        "from simclr_jax import data, errors\n"
        "try:\n"
        f"    data.load('tiny', 'train', data_dir={str(folder)!r})\n"
        "except errors.DataError:\n"
        "    print(os.environ['TF_CPP_MIN_LOG_LEVEL'])\n"
    )
    level = "TF_CPP_MIN_LOG_LEVEL"
    plain = {name: value for name, value in os.environ.items() if name != level}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=plain | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert (ended.stdout, ended.stderr) == ("1\n", "")  # XLA's level is jax's


def real_tfds() -> Path:
    here = ROOT / "../shared/data/tfds"
    return Path(os.environ.get("SIMCLR_JAX_TFDS") or here)


@pytest.mark.skipif(
    not (real_tfds() / "cifar10").is_dir(),
    reason="no CIFAR-10: set SIMCLR_JAX_TFDS to a TFDS folder that has it",
)
def test_real_cifar10():
    folder = str(real_tfds())
    info = data.describe("cifar10", data_dir=folder)
    assert info.num_examples == {"train": 50_000, "test": 10_000}
    assert info.class_names[0] == "airplane"
    test = data.load("cifar10", "test", data_dir=folder)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    train = data.load("cifar10", "train", data_dir=folder, streaming=True)
    np.testing.assert_array_equal(np.bincount(train.labels), [5000] * 10)
    batch = next(train.batches(200, seed=(0,), start=249))
    assert batch["image"].shape == (200, 32, 32, 3)
    np.testing.assert_array_equal(batch["label"], train.labels[batch["index"]])
