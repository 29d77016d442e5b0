"""Parts of splits are what TFDS makes of them, for every kind of data set."""

import numpy as np
import pytest
from tiny_tfds import SIZE, TEST, TRAIN, numbers

from simclr_jax import data
from simclr_jax.data import splits
from simclr_jax.errors import DataError

INFO = data.Info("x", {"train": 103, "test": 7, "odd+name": 5}, 0, (), (4, 4, 3))


@pytest.mark.parametrize(
    "spec",
    [
        *("train", "train[:90%]", "train[90%:]", "train[33%:66%]", "train[-10%:]"),
        *("train[:10]", "train[10:20]", "train[-3:]", "train[:-100]", "test[50%:]"),
        *("train+test", "train[:5%]+test[2:4]", "train[1%:2%]"),
    ],
)
def test_parts_are_those_of_tfds(spec):
    tfds = pytest.importorskip("tensorflow_datasets")
    sizes = {
        name: tfds.core.SplitInfo(
            name=name,
            shard_lengths=[count],
            num_bytes=0,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=".", dataset_name="x", split=name, filetype_suffix="tfrecord"
            ),
        )
        for name, count in INFO.num_examples.items()
        if name.isalpha()
    }
    expected = tfds.core.ReadInstruction.from_spec(spec).to_absolute(sizes)
    found = splits.parts(INFO, spec)
    assert [part.split for part in found] == [x.splitname for x in expected]
    for part, one in zip(found, expected, strict=True):
        count = INFO.num_examples[part.split]
        assert part.start == (one.from_ or 0)
        assert part.stop == (count if one.to is None else one.to)
    assert splits.examples(INFO, spec) == sum(x.stop - x.start for x in found)


def test_a_split_may_be_called_anything():
    assert splits.examples(INFO, "odd+name") == 5


@pytest.mark.parametrize(
    "split, message",
    [
        ("val", r"x has no split 'val'; it has train, test, odd\+name"),
        ("train[", "no split"),
        ("train[:5.5%]", "no split"),
        ("train+val[:5]", r"no split 'train\+val\[:5\]'"),
        ("", "no split ''"),
        ("train[5:5]", r"'train\[5:5\]' is no part of the 103 images of x train"),
        ("train[:104]", "no part"),
        ("test[:5%]", "no part"),  # 0.35 of an image
        ("train[90%:10%]", "no part"),
    ],
)
def test_what_is_no_part_is_refused(split, message):
    with pytest.raises(DataError, match=rf"^split: .*{message}"):
        splits.parts(INFO, split)


@pytest.mark.parametrize("kind", ["tfrecord", "npz", "folder"])
@pytest.mark.parametrize("streaming", [False, True])
def test_two_parts_are_the_whole(folders, npz, photos, kind, streaming):
    """In stored order; together every image once, with its label."""
    name, options = {
        "tfrecord": ("cifar10", {"data_dir": str(folders["tfrecord"])}),
        "npz": ("npz", {"path": str(npz)}),
        "folder": ("folder", {"path": str(photos), "stored_size": SIZE}),
    }[kind]

    def read(split, **more):
        source = data.load(name, split, streaming=streaming, **options, **more)
        (batch,) = source.ordered(source.num_examples)
        found = numbers(batch)
        np.testing.assert_array_equal(source.labels, np.asarray(found) % 10)
        return found

    whole = read("train")
    first, second = read("train[:80%]"), read("train[80%:]")
    assert len(first) == TRAIN * 8 // 10
    np.testing.assert_array_equal([*first, *second], whole)
    np.testing.assert_array_equal(read("train[80%:]+test")[: len(second)], second)
    assert len(read("train[80%:]+test")) == TRAIN // 5 + TEST
    np.testing.assert_array_equal(read("train[10:]", limit=4), whole[10:14])


def test_mnist5k_in_parts():
    source = data.load("mnist5k", "train[90%:]")
    assert source.num_examples == 400
    assert np.bincount(source.labels).tolist() == [40] * 10
