"""The splits that a recipe names: which images they are, under limits and fractions.

The pixels of image k are all k and its label is k % 4: train has images 0 to 39, test
40 to 51.
"""

import numpy as np
import pytest
import tiny_recipe
from PIL import Image

from simclr_jax import data
from simclr_jax.errors import DataError, RequestError
from simclr_jax.experiment.images import Images

TRAIN, TEST, SIZE = 40, 12, 4


def pixels(count: int, first: int = 0) -> np.ndarray:
    numbers = np.arange(first, first + count, dtype=np.uint8)
    return np.tile(numbers[:, None, None, None], (1, SIZE, SIZE, 3))


@pytest.fixture
def npz(tmp_path):
    labels = np.arange(TRAIN + TEST) % 4
    np.savez(
        tmp_path / "set.npz",
        train_images=pixels(TRAIN),
        train_labels=labels[:TRAIN],
        test_images=pixels(TEST, first=TRAIN),
        test_labels=labels[TRAIN:],
    )
    return tmp_path / "set.npz"


def opened(path, seed=(0, 2), **fields) -> Images:
    config = tiny_recipe.get_config()
    config.data.path = str(path)
    config.update_from_flattened_dict(fields)
    return Images(config, seed)


def numbers(source: data.Source) -> list[int]:
    """The images of a source in their order, by their pixels."""
    found = []
    for batch in source.ordered(5):
        rows = data.take(batch)
        assert rows["image"].shape[1:] == source.image_shape
        found += np.asarray(rows["image"])[np.asarray(rows["mask"]), 0, 0, 0].tolist()
    return found


TRAINING, TESTING = list(range(TRAIN)), list(range(TRAIN, TRAIN + TEST))
# (fields of config.data, images to pretrain on, labelled, of the test)
SPLITS = [
    ({}, TRAINING, TRAINING, TESTING),
    ({"limit": 10}, TRAINING[:10], TRAINING[:10], TESTING),
    ({"pretrain_split": "train", "limit": 10}, TRAINING[:10], TRAINING[:10], TESTING),
    ({"pretrain_split": "test"}, TESTING, TRAINING, TESTING),
    ({"pretrain_split": "test", "limit": 5}, TESTING[:5], TRAINING, TESTING),
    ({"test_split": "train"}, TRAINING, TRAINING, TRAINING),
    ({"test_split": "train", "limit": 10}, TRAINING[:10], TRAINING[:10], TRAINING),
    (
        {"test_split": "train", "pretrain_split": "test", "limit": 5},
        TESTING[:5],
        TRAINING,
        TRAINING,
    ),
]


@pytest.mark.parametrize("fields, unlabelled, train, test", SPLITS)
@pytest.mark.parametrize("streaming", [False, True])
def test_the_limit_is_of_the_images_to_pretrain_on(
    npz, fields, unlabelled, train, test, streaming
):
    fields = {f"data.{name}": value for name, value in fields.items()}
    images = opened(npz, **fields, **{"data.streaming": streaming})
    assert numbers(images.unlabelled) == unlabelled
    assert numbers(images.train) == train
    assert numbers(images.test) == test
    kind = data.Stream if streaming else data.Resident
    for source in (images.unlabelled, images.train, images.test):
        assert isinstance(source, kind)
        np.testing.assert_array_equal(source.labels, np.array(numbers(source)) % 4)


def test_no_images_are_held_twice(npz):
    images = opened(npz)
    assert images.unlabelled is images.train is images.train
    assert images.test is not images.train
    assert opened(npz, **{"data.pretrain_split": "test"}).train is not images.train
    one = opened(npz, **{"data.test_split": "train"})
    assert one.test is one.train
    cut = opened(npz, **{"data.test_split": "train", "data.limit": 10})
    assert cut.test is not cut.train


def test_what_fits_the_device_is_kept_there(npz):
    room = TEST * SIZE * SIZE * 3 / 1e9  # for the test images, not for the others
    images = opened(npz, **{"data.device_limit_gb": room})
    assert isinstance(images.test, data.Resident)
    assert isinstance(images.train, data.Stream)


@pytest.mark.parametrize("section", ["probe", "finetune"])
def test_a_fraction_of_the_labels_is_balanced_and_drawn_by_the_seed(npz, section):
    fields = {f"{section}.label_fraction": 0.3}  # 12 of 40: 3 of each of the 4 classes
    images = opened(npz, **fields)
    chosen = images.labelled_indices(section)
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(chosen % 4).tolist() == [3, 3, 3, 3]
    assert numbers(images.labelled(section)) == chosen.tolist()
    assert images.label_fraction(section) == 0.3
    again = opened(npz, **fields).labelled_indices(section)
    np.testing.assert_array_equal(again, chosen)
    other = opened(npz, seed=(1, 2), **fields).labelled_indices(section)
    assert not np.array_equal(other, chosen)


RARE = np.repeat([0, 1, 2], [30, 9, 1])
ABSENT = np.array([0, 5, 40, 40] * 10)


@pytest.mark.parametrize(
    "labels, fraction, used",
    [
        (RARE, 0.9, 12 + 9 + 1),  # round(0.9 * 40 / 3) of each class that has as many
        (ABSENT, 0.2, 3 * 3),  # round(8 / 3) of each class that is there
        (RARE, 1.0, 40),
    ],
)
@pytest.mark.parametrize("section", ["probe", "finetune"])
def test_the_share_on_record_is_the_one_used(npz, labels, fraction, used, section):
    np.savez(npz, **dict(np.load(npz)) | {"train_labels": labels})
    images = opened(npz, **{f"{section}.label_fraction": fraction})
    assert len(images.labelled_indices(section)) == used
    assert images.label_fraction(section) == used / 40


def test_the_stages_share_one_draw(npz):
    """A baseline and what is compared with it see the same labels."""
    fields = {"probe.label_fraction": 0.1, "finetune.label_fraction": 0.3}
    images = opened(npz, **fields)
    few, more = (set(images.labelled_indices(s)) for s in ("probe", "finetune"))
    assert len(few) == 4
    assert few < more


def test_a_fraction_is_of_the_images_that_the_limit_leaves(npz):
    fields = {"finetune.label_fraction": 0.5, "data.limit": 8}
    images = opened(npz, **fields)
    chosen = images.labelled_indices("finetune")
    assert np.bincount(chosen % 4).tolist() == [1, 1, 1, 1]
    assert chosen.max() < 8
    apart = opened(npz, **fields, **{"data.pretrain_split": "test"})
    assert len(apart.labelled_indices("finetune")) == TRAIN // 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_labels_is_named(npz, split):
    arrays = dict(np.load(npz))
    del arrays[f"{split}_labels"]
    np.savez(npz, **arrays)
    with pytest.raises(RequestError) as caught:
        opened(npz, stages=("pretrain", "knn", "export")).require_labels()
    assert str(caught.value) == (
        f"config.data.{split}_split: no image of '{split}' has a label; name a "
        "labelled split, or do without: --config.stages=pretrain,export "
        "--config.probe.every_epochs=0"
    )


def test_labels_in_both_splits_are_enough(npz):
    opened(npz).require_labels()


def test_nothing_is_read_before_it_is_asked_for(npz):
    images = opened(npz.with_name("absent.npz"))
    with pytest.raises(DataError, match=r"^path: .*absent\.npz does not exist"):
        _ = images.train


def test_a_folder_with_images_to_pretrain_on(tmp_path):
    """Classes in train and val, more without; each image k in a file k.png."""
    places = {"train/cat": 4, "train/dog": 3, "val/cat": 2, "val/dog": 1, "more": 6}
    number = 0
    for place, count in places.items():
        (tmp_path / place).mkdir(parents=True)
        for image in pixels(count, first=number):
            Image.fromarray(image).save(tmp_path / place / f"{number}.png")
            number += 1
    (tmp_path / "listed.txt").write_text("5.png\n0.png\n")
    fields = {
        "data.name": "folder",
        "data.stored_size": 2,
        "data.pretrain_split": "more",
        "data.test_split": "val",
        "data.limit": 4,
        "finetune.label_file": str(tmp_path / "listed.txt"),
    }
    images = opened(tmp_path, **fields)
    assert images.unlabelled.num_examples == 4
    assert set(numbers(images.unlabelled)) < set(range(10, 16))
    assert sorted(numbers(images.train)) == list(range(7))
    assert sorted(numbers(images.test)) == [7, 8, 9]
    assert images.train.image_shape == (2, 2, 3)
    assert sorted(numbers(images.labelled("finetune"))) == [0, 5]
    assert images.label_fraction("finetune") == 2 / 7
