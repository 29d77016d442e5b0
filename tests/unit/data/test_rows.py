"""Each of several processes reads its rows of every batch.

What they read, put together, is what one reader gives. The batches of 12 do not divide
the 40 images: of the last batch some processes have a few rows or none.
"""

from itertools import islice

import numpy as np
import pytest
from tiny_tfds import SIZE, TEST, TRAIN, numbers

from simclr_jax import data, devices
from simclr_jax.data import folder as folder_module
from simclr_jax.data.rows import in_rows
from simclr_jax.errors import DataError

BATCH = 12


@pytest.fixture(params=["tfrecord", "array_record", "npz", "folder"])
def opened(request, folders, npz, photos):
    """reader(split) of one kind of data set."""
    kind, size = request.param, 0
    if kind == "folder":
        dataset, size = data.open_dataset("folder", path=str(photos)), SIZE
    elif kind == "npz":
        dataset = data.open_dataset("npz", path=str(npz))
    else:
        dataset = data.open_dataset("cifar10", data_dir=str(folders[kind]))
    # Smaller than the split, so that the order depends on all that the buffer saw.
    return lambda split: dataset.reader(split, stored_size=size, shuffle_buffer=15)


def shares(batch_size: int, processes: int) -> list[slice]:
    size = batch_size // processes
    return [slice(i * size, (i + 1) * size) for i in range(processes)]


def joined(parts):
    """The batches that the processes' batches make together."""
    return [
        {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        for batch in zip(*parts, strict=True)
    ]


def assert_same(batches, expected):
    for batch, wanted in zip(batches, expected, strict=True):
        assert batch.keys() == wanted.keys()
        for name, array in batch.items():
            assert array.dtype == wanted[name].dtype
            np.testing.assert_array_equal(array, wanted[name])


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": (3, 1)},
        {"shuffle": (3, 1), "start": BATCH},
        {"shuffle": (3, 1), "start": BATCH, "stop": 3 * BATCH},
        {"start": 7, "stop": 9},
        {"keep": np.arange(1, TRAIN, 2)},
        {"keep": np.arange(1, TRAIN, 2), "shuffle": (5,), "start": 3},
    ],
    ids=lambda options: "+".join(options) or "all",
)
def test_the_parts_are_the_whole(opened, options, processes):
    reader = opened("train")
    whole = list(reader.read(BATCH, **options))
    parts = [
        list(reader.read(BATCH, rows=rows, **options))
        for rows in shares(BATCH, processes)
    ]
    assert_same(joined(parts), whole)
    for batches in parts:  # not all the rows on one process and none on another
        for batch in batches[:-1]:
            assert len(numbers(batch)) == BATCH // processes
    if "start" in options:  # the same rows as those of a reader that did not skip
        straight = list(reader.read(1, **options | {"start": 0}))[options["start"] :]
        index = [int(batch["index"][0]) for batch in straight]
        np.testing.assert_array_equal(
            np.concatenate([batch["index"] for batch in joined(parts)]), index
        )


def test_a_process_without_a_row_gets_an_empty_batch(opened):
    reader = opened("test")  # 13 images: 12 and 1
    *_, last = reader.read(BATCH, rows=slice(6, 12))
    assert {name: (rows.shape, rows.dtype) for name, rows in last.items()} == {
        "image": ((0, SIZE, SIZE, 3), np.uint8),
        "label": ((0,), np.int32),
        "index": ((0,), np.int32),
    }


def counting(function, calls):
    def counted(*args, **options):
        calls.append(args)
        return function(*args, **options)

    return counted


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_only_the_rows_of_a_tfds_set_are_decoded(monkeypatch, folders, kind):
    tf = data.tensorflow()
    reader = data.open_dataset("cifar10", data_dir=str(folders[kind])).reader("train")
    decoded, fetched = [], []
    feature = reader._feature

    class Counted:
        def decode_example(self, text):
            note = counting(lambda text: text, decoded)
            text = tf.ensure_shape(tf.numpy_function(note, [text], tf.string), [])
            return feature.decode_example(text)

    monkeypatch.setattr(reader, "_feature", Counted())
    if kind == "array_record":
        records = reader._records

        class Fetched:
            def __getitems__(self, positions):
                fetched.extend(positions)
                return records.__getitems__(positions)

        monkeypatch.setattr(reader, "_records", Fetched())
    batches = list(reader.read(BATCH, shuffle=(0,), rows=slice(4, 8)))
    assert [len(batch["index"]) for batch in batches] == [4, 4, 4, 0]
    assert len(decoded) == 12
    if kind == "array_record":
        index = np.concatenate([batch["index"] for batch in batches])
        assert sorted(fetched) == sorted(index)


def test_only_the_rows_of_a_folder_are_decoded(monkeypatch, photos):
    reader = data.open_dataset("folder", path=str(photos)).reader(
        "train", stored_size=8
    )
    decoded = []
    monkeypatch.setattr(
        folder_module, "decode", counting(folder_module.decode, decoded)
    )
    batches = list(reader.read(BATCH, rows=slice(2, 4)))
    assert [len(batch["index"]) for batch in batches] == [2, 2, 2, 2]
    assert len(decoded) == 8


def test_a_damaged_image_stops_the_process_that_reads_it(tmp_path, photos):
    for file in (photos / "test").rglob("*.png"):
        copy = tmp_path / file.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    dataset = data.open_dataset("folder", path=str(tmp_path))
    (split,) = dataset.info.num_examples
    reader = dataset.reader(split, stored_size=SIZE)
    position = next(iter(reader.read(4)))["index"][3]
    name = reader.file_names()[position]
    (file,) = tmp_path.rglob(name)
    file.write_bytes(b"not a picture")
    assert len(list(reader.read(4, rows=slice(0, 2)))) == 4
    with pytest.raises(DataError, match=name):
        list(reader.read(4, rows=slice(2, 4)))


def sources(monkeypatch, opened, split, processes, batches):
    """What `batches(stream)` gives in each of several processes."""
    parts = []
    for number in range(processes):
        monkeypatch.setattr(
            devices, "my_rows", lambda size, i=number: shares(size, processes)[i]
        )

        def join(rows, batch_size):
            for array in rows.values():
                assert len(array) == batch_size // processes
            return rows

        monkeypatch.setattr(devices, "join", join)
        stream = data.make_source(opened(split), device_limit_gb=0.0)
        parts.append(list(batches(stream)))
    monkeypatch.undo()
    whole = list(batches(data.make_source(opened(split), device_limit_gb=0.0)))
    return parts, whole


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("start", [0, 2])
def test_streams_train_on_the_batches_of_one_process(
    monkeypatch, opened, processes, start
):
    parts, whole = sources(
        monkeypatch,
        opened,
        "train",
        processes,
        lambda stream: islice(stream.batches(BATCH, seed=(0, 1), start=start), 5),
    )
    assert_same(joined(parts), whole)


@pytest.mark.parametrize("processes", [2, 3])
def test_streams_are_evaluated_in_order(monkeypatch, opened, processes):
    parts, whole = sources(
        monkeypatch, opened, "test", processes, lambda stream: stream.ordered(6)
    )
    assert [batch["mask"].sum() for batch in whole] == [6, 6, 1]
    for batches in parts:  # every process has the mask of the whole batch
        for batch, wanted in zip(batches, whole, strict=True):
            assert isinstance(batch["mask"], np.ndarray)
            np.testing.assert_array_equal(batch.pop("mask"), wanted["mask"])
    for batch, wanted in zip(joined(parts), whole, strict=True):
        mask = wanted.pop("mask")
        assert_same(
            [{name: rows[mask] for name, rows in batch.items()}],
            [{name: rows[mask] for name, rows in wanted.items()}],
        )


def test_a_process_looks_at_images_by_itself(monkeypatch, opened):
    """Whichever rows are its own."""
    reader = opened("train")
    (every,) = reader.read(TRAIN)
    monkeypatch.setattr(devices, "my_rows", lambda size: slice(0, size // 2))
    for limit in (0.0, 1.0):
        source = data.make_source(reader, device_limit_gb=limit)
        source = source.subset(np.arange(4, TRAIN))
        pixels = source.images(np.array([0, 3, 30]))
        np.testing.assert_array_equal(pixels, every["image"][[4, 7, 34]])


def test_rows_of_an_order():
    order = np.arange(100, 100 + TEST)
    assert in_rows(order, 6, slice(3, 6)).tolist() == [103, 104, 105, 109, 110, 111]
    assert in_rows(order, 6, slice(0, 6)).tolist() == order.tolist()
