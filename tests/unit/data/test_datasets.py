"""What every kind of source promises.

Each runs over a Resident and over streams of both TFDS file formats, of arrays and of a
folder. See tiny_tfds.py for the images; TFDS stores them in an order of its own, which
`stored` reads back through tfds itself.
"""

import zlib
from itertools import islice

import numpy as np
import pytest
from tiny_tfds import FORMATS, SIZE, TEST, TRAIN, numbers, taken

from simclr_jax import data
from simclr_jax.errors import DataError


@pytest.fixture(scope="session")
def stored(folders):
    """{split: image numbers in stored order}, as tfds reads them."""
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(interleave_cycle_length=1)
    return {
        split: np.array(
            [
                example["image"][0, 0, 0]
                for example in tfds.load(
                    "cifar10",
                    split=split,
                    data_dir=folders["tfrecord"],
                    download=False,
                    read_config=config,
                ).as_numpy_iterator()
            ]
        )
        for split in ("train", "test")
    }


@pytest.fixture
def order(request, stored):
    """order(split): the image numbers of the kind of source in stored order."""
    kind = request.node.callspec.params["opened"]

    def of(split):
        written = (
            np.arange(TRAIN) if split == "train" else np.arange(TRAIN, TRAIN + TEST)
        )
        if kind == "npz":
            return written
        if kind == "folder":  # by the checksum of the path
            return np.array(
                sorted(written, key=lambda k: checksum(f"{k % 10}/{k}.png"))
            )
        return stored[split]

    def checksum(name):
        return zlib.crc32(name.encode())

    return of


@pytest.fixture(params=["resident", "tfrecord", "array_record", "npz", "folder"])
def opened(request, folders, npz, photos):
    """load(split, **options) of one kind of source; all but the first stream."""
    kind = request.param
    if kind == "folder":
        return lambda split, **options: data.load(
            "folder",
            split,
            path=str(photos),
            stored_size=SIZE,
            streaming=True,
            **options,
        )
    if kind == "npz":
        return lambda split, **options: data.load(
            "npz", split, path=str(npz), streaming=True, **options
        )
    folder = str(folders["tfrecord" if kind == "resident" else kind])
    return lambda split, **options: data.load(
        "cifar10", split, data_dir=folder, streaming=kind != "resident", **options
    )


def epochs(source, batch_size, count, *, seed=(0, 1), start=0):
    return [
        numbers(batch)
        for batch in islice(source.batches(batch_size, seed=seed, start=start), count)
    ]


def test_each_epoch_holds_every_example_once(opened):
    source = opened("train")
    first, second = np.reshape(epochs(source, 8, 2 * TRAIN // 8), (2, TRAIN))
    np.testing.assert_array_equal(np.sort(first), np.arange(TRAIN))
    np.testing.assert_array_equal(np.sort(second), np.arange(TRAIN))
    assert (first != second).any()
    assert (first != np.arange(TRAIN)).any()


def test_remainder_is_dropped_without_repeats(opened):
    batches = epochs(opened("train"), 12, 6)
    for epoch in (batches[:3], batches[3:]):
        assert len(np.unique(np.concatenate(epoch))) == 36
    assert set(np.concatenate(batches[:3])) != set(np.concatenate(batches[3:]))


def test_order_is_a_function_of_the_seed(opened):
    one, again, other = (
        np.concatenate(epochs(opened("train"), 8, 7, seed=seed))
        for seed in ((3, 1), (3, 1), (3, 2))
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_resumed_stream_goes_on_where_it_stopped(opened, start):
    """In the same epoch or a later one, as a new process opens it."""
    straight = islice(opened("train").batches(12, seed=(0, 1)), start, 9)
    resumed = opened("train").batches(12, seed=(0, 1), start=start)
    for one, other in zip(straight, islice(resumed, 9 - start), strict=True):
        one, other = taken(one), taken(other)
        assert one.keys() == other.keys() == {"image", "label", "index"}
        for name, rows in one.items():
            np.testing.assert_array_equal(rows, other[name])


def test_a_small_shuffle_buffer_still_covers_the_epoch(folders):
    source = data.load(
        "cifar10",
        "train",
        data_dir=str(folders["tfrecord"]),
        streaming=True,
        shuffle_buffer=5,
    )
    batches = epochs(source, 8, 5)
    assert sorted(np.concatenate(batches)) == list(range(TRAIN))
    np.testing.assert_array_equal(batches[3:], epochs(source, 8, 2, start=3))


def test_ordered_keeps_stored_order_and_every_example(opened, order):
    order = order("test")
    batches = list(opened("test").ordered(5))
    assert [batch["mask"].sum() for batch in batches] == [5, 5, 3]
    rows = np.concatenate([numbers(batch) for batch in batches])
    mask = np.concatenate([taken(batch)["mask"] for batch in batches])
    np.testing.assert_array_equal(rows[mask], order)
    np.testing.assert_array_equal(rows[~mask], order[[0, 0]])
    index = np.concatenate([batch["index"] for batch in batches])
    np.testing.assert_array_equal(index, [*range(TEST), 0, 0])


def test_labels_and_index_follow_stored_order(opened, order):
    source = opened("train")
    order = order("train")
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, order % 10)
    batch = next(source.batches(8, seed=(0,)))
    np.testing.assert_array_equal(numbers(batch), order[batch["index"]])


def test_limit_takes_the_first_in_stored_order(opened, order):
    source = opened("train", limit=20)  # cuts through the second of the three files
    order = order("train")
    assert source.num_examples == 20
    np.testing.assert_array_equal(source.labels, order[:20] % 10)
    rows = [numbers(batch) for batch in source.ordered(10)]
    np.testing.assert_array_equal(np.concatenate(rows), order[:20])
    assert set(np.concatenate(epochs(source, 10, 2))) == set(order[:20])


@pytest.mark.parametrize("kind", FORMATS)
def test_any_tfds_split_is_understood(folders, stored, kind):
    streamed = data.load(
        "cifar10", "train[30:]+test", data_dir=str(folders[kind]), streaming=True
    )
    rows = np.concatenate([numbers(batch) for batch in streamed.ordered(23)])
    np.testing.assert_array_equal(rows, [*stored["train"][30:], *stored["test"]])
    assert set(np.concatenate(epochs(streamed, 23, 1))) == set(rows)


def test_subset_trains_on_its_members_only(opened):
    source = opened("train")
    members = np.array([1, 5, 8, 13, 21, 34, 38])
    subset = source.subset(members)
    assert subset.num_examples == 7
    np.testing.assert_array_equal(subset.labels, source.labels[members])
    batches = list(islice(subset.batches(3, seed=(0,)), 4))
    assert len(np.unique(np.concatenate([b["index"] for b in batches[:2]]))) == 6
    assert {i for batch in batches for i in batch["index"]} <= set(members)
    for batch in batches:
        np.testing.assert_array_equal(
            numbers(batch) % 10, source.labels[batch["index"]]
        )
    resumed = next(subset.batches(3, seed=(0,), start=3))
    np.testing.assert_array_equal(resumed["index"], batches[3]["index"])


def test_subset_of_a_subset_and_its_order(opened):
    subset = opened("train").subset(np.arange(5, 25)).subset(np.array([2, 3, 11]))
    (batch,) = subset.ordered(4)
    np.testing.assert_array_equal(batch["index"], [7, 8, 16, 7])
    np.testing.assert_array_equal(numbers(batch)[:3] % 10, subset.labels)


def test_a_sample_is_evenly_spaced_and_of_the_same_kind(opened):
    source = opened("train")
    sample = source.sample(8)
    assert type(sample) is type(source)
    (batch,) = sample.ordered(8)
    np.testing.assert_array_equal(batch["index"], np.arange(8) * TRAIN // 8)
    np.testing.assert_array_equal(numbers(batch) % 10, sample.labels)
    assert source.sample(TRAIN + 1).num_examples == TRAIN
    (batch,) = source.subset(np.array([3, 5, 8, 9])).sample(2).ordered(2)
    np.testing.assert_array_equal(batch["index"], [3, 8])


def test_resident_subset_shares_the_arrays_and_keeps_the_order(folders):
    source = data.load("cifar10", "train", data_dir=str(folders["tfrecord"]))
    subset = source.subset(np.array([9, 2, 30]))
    (batch,) = subset.ordered(3)
    np.testing.assert_array_equal(batch["index"], [9, 2, 30])
    assert batch["dataset"]["image"] is source.dataset["image"]


def test_large_sets_stream_and_their_small_subsets_do_not(folders):
    gigabytes = 20 * SIZE * SIZE * 3 / 1e9  # room for 20 images
    options = {"data_dir": str(folders["tfrecord"]), "device_limit_gb": gigabytes}
    assert isinstance(data.load("cifar10", "test", **options), data.Resident)
    source = data.load("cifar10", "train", **options)
    assert isinstance(source, data.Stream)
    assert isinstance(source.subset(np.arange(21)), data.Stream)
    small = source.subset(np.array([30, 4, 17]))
    assert isinstance(small, data.Resident)
    np.testing.assert_array_equal(small.labels, source.labels[[30, 4, 17]])
    chosen = data.load("cifar10", "train", indices=np.array([30, 4, 17]), **options)
    np.testing.assert_array_equal(chosen.labels, small.labels)
    with pytest.raises(ValueError, match="increasing"):
        source.subset(np.arange(30)[::-1])
    with pytest.raises(IndexError):
        data.load("cifar10", "train", indices=np.array([TRAIN]), **options)


@pytest.mark.parametrize("batch_size", [0, TRAIN + 1])
def test_batch_size_must_fit(opened, batch_size):
    with pytest.raises(DataError, match=rf"^batch_size: {batch_size} "):
        opened("train").batches(batch_size, seed=(0,))
