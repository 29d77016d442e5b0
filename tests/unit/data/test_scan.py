"""What is found in a folder, and what is said of it: layouts, left-out files, greys."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from simclr_jax import data
from simclr_jax.data import damage, scan
from simclr_jax.errors import DataError


@pytest.fixture(autouse=True)
def _anew():
    scan.scan.cache_clear()
    damage.check.cache_clear()


def make(root, *files, size=(4, 4)):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / file)
    return root


def described(root, **options):
    return data.describe("folder", path=str(root), **options)


def labels(root, split):
    source = data.load("folder", split, path=str(root), stored_size=4)
    return [-1 if x < 0 else source.class_names[x] for x in source.labels]


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
@pytest.mark.parametrize("test", ["test", "Test", "val", "Val", "valid", "validation"])
def test_splits_in_any_case(tmp_path, train, test):
    for name in ("a", "b"):
        make(tmp_path, *(f"{train}/{name}/{k}.png" for k in range(3)))
        make(tmp_path, f"{test}/{name}/0.png")
    info = described(tmp_path)
    assert info.num_examples["train"] == 6
    assert info.num_examples["test"] == 2
    assert info.num_examples[test] == 2  # as the folder is called
    assert info.num_examples[test.lower()] == 2
    assert info.class_names == ("a", "b")
    assert sorted(labels(tmp_path, "test")) == ["a", "b"]
    said = f", test is {test.lower()}, " in info.found[0]
    assert said is (test.lower() != "test")
    assert "8 images (" in info.found[0]  # each split once


def test_test_is_test_where_there_is_val_too(tmp_path):
    make(tmp_path, "train/0.png", "val/0.png", "val/1.png", "test/0.png")
    assert described(tmp_path).num_examples == {"train": 1, "val": 2, "test": 1}


def test_folders_are_classes(tmp_path):
    make(tmp_path, "cat/0.png", "cat/1.png", "dog/old/0.png")
    info = described(tmp_path)
    assert info.num_examples == {"train": 3}
    assert sorted(labels(tmp_path, "train")) == ["cat", "cat", "dog"]
    assert info.found == (
        f"{tmp_path}: 3 images, 2 classes (cat 2, dog 1), 4 x 4 pixels",
    )


def test_the_order_of_a_folder_of_classes_is_that_of_the_folder_without(tmp_path):
    """So a run from before there were such classes goes on with the same batches."""
    make(tmp_path, *(f"{name}/{k}.png" for name in ("a", "b") for k in range(9)))
    before = data.file_names("folder", "train", path=str(tmp_path), stored_size=4)
    make(tmp_path, "loose.png")  # now no folder is a class
    scan.scan.cache_clear()
    damage.check.cache_clear()
    after = data.file_names("folder", "train", path=str(tmp_path), stored_size=4)
    assert described(tmp_path).num_classes == 0
    assert [name for name in after if name != "loose.png"] == before


def test_a_class_called_train_is_a_class(tmp_path):
    make(
        tmp_path,
        *(f"{name}/{k}.png" for k in "01" for name in ("boat", "car", "train")),
    )
    info = described(tmp_path)
    assert info.num_examples == {"train": 6}
    assert info.class_names == ("boat", "car", "train")


@pytest.mark.parametrize("other", ["unlabelled", "Test", "extra"])
def test_images_without_classes_in_splits(tmp_path, other):
    make(tmp_path, "train/0.png", f"{other}/0.png")
    info = described(tmp_path)
    assert info.num_classes == 0
    assert info.num_examples[other] == info.num_examples["train"] == 1


def test_one_folder_or_tests_alone_are_no_classes(tmp_path):
    make(tmp_path, "2024/0.png", "2024/1.png")
    assert described(tmp_path).num_classes == 0
    make(tmp_path / "other", "test/a/0.png", "val/b/0.png")
    assert described(tmp_path / "other").num_classes == 0
    assert described(tmp_path / "other").num_examples == {"train": 2}


def test_two_folders_for_one_split_are_refused(tmp_path):
    make(tmp_path, "train/a/0.png", "Test/a/0.png", "test/a/0.png")
    with pytest.raises(DataError, match=r"^path: .* several folders called test; re"):
        described(tmp_path)


@pytest.mark.parametrize("layout", ["{}", "train/{}"])
def test_a_class_in_another_encoding_has_a_name_that_can_be_written(tmp_path, layout):
    """In Latin-1 "café" ends in the byte E9, which is not UTF-8."""
    name = os.fsdecode(b"caf\xe9")
    make(tmp_path, layout.format(name) + "/0.png", layout.format("plain") + "/0.png")
    found = described(tmp_path).class_names
    assert found == ("caf\\xe9", "plain")
    assert "".join(found).encode()  # half a character would raise UnicodeEncodeError
    assert sorted(labels(tmp_path, "train")) == list(found)


def test_images_outside_the_classes_are_said(tmp_path):
    make(tmp_path, "train/a/0.png", "train/b/0.png", "train/stray.png", "loose.png")
    info = described(tmp_path)
    assert info.num_examples == {"train": 3}
    assert info.found[1:] == (
        "  not used, because beside the splits: 1",
        "  no classes in train, because outside of their folders: 1 of its images",
    )


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    make(tmp_path, "a/0.png", "b/0.JPEG", "b/1.png", size=(8, 6))
    make(tmp_path, "b/large.bmp", size=(30, 20))
    make(tmp_path, "__MACOSX/a/0.png", "a/@eaDir/0.png", ".thumbnails/0.png")
    make(tmp_path, "a/._0.png")
    for name in ("Thumbs.db", "a/.DS_Store", "desktop.ini", "notes.TXT", "b/x.txt"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "README").write_text("no image")
    (tmp_path / "film.mp4").write_text("no image")
    info = described(tmp_path)
    assert info.num_examples == {"train": 4}
    first, left = info.found
    assert first == (
        f"{tmp_path}: 4 images, 2 classes (a 1, b 3), 8 x 6 to 30 x 20 pixels"
    )
    kinds = left.removeprefix("  left out: ").split(", ")
    assert sorted(kinds) == sorted(
        ["7 hidden or of the system", "2 .txt", "1 .mp4", "1 without suffix"]
    )


def test_nothing_but_other_files(tmp_path):
    (tmp_path / "film.mp4").write_text("no image")
    message = r"^path: no image file in .*, but 1 \.mp4; image files end in \.jpg, "
    with pytest.raises(DataError, match=message):
        described(tmp_path)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a/0.png", "b/0.png", "b/private/0.png")
    real = os.scandir

    def scandir(place):
        if str(place).endswith("private"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    message = r"^path: cannot read the folder .*/b/private: Permission denied; make it"
    with pytest.raises(DataError, match=message):
        described(tmp_path)


def test_a_pipe_is_named_and_not_waited_for(tmp_path):
    make(tmp_path, "0.png")
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"cannot read .*/1\.png: it is not a regular"):
        described(tmp_path)
    assert described(tmp_path, skip_damaged=1).num_examples == {"train": 1}


def test_links_to_nothing_are_damaged_files(tmp_path):
    make(tmp_path, "0.png")
    (tmp_path / "1.png").symlink_to(tmp_path / "absent.png")
    with pytest.raises(DataError, match=r"cannot read .*/1\.png: No such file or dir"):
        described(tmp_path)


def test_several_damaged_files_are_named(tmp_path):
    for k in range(7):
        (tmp_path / f"{k}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        described(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"path: cannot read 7 of the 7 image files in {tmp_path}: ")
    assert len(re.findall(r"\d\.png \(", text)) == 5
    assert " and 2 more; repair them" in text
    assert "0.png (not an image that Pillow knows)" in "\n".join(caught.value.lines)
    assert sorted(re.findall(r"(\d)\.png", "\n".join(caught.value.lines))) == [
        *"0123456"
    ]


def test_of_very_many_damaged_files_the_first_hundred_are_listed(tmp_path):
    for k in range(103):
        (tmp_path / f"{k}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        described(tmp_path)
    *lines, last = caught.value.lines
    assert len({re.search(r"\d+\.png", line)[0] for line in lines}) == 100
    assert last == "  and 3 more damaged files"


def test_the_left_out_files_are_known_by_their_whole_paths(tmp_path):
    make(tmp_path, "0.png")
    (tmp_path / "1.png").write_bytes(b"")
    found = described(tmp_path, skip_damaged=1)
    assert found.damaged == {f"{tmp_path}/1.png": "not an image that Pillow knows"}


def test_one_white_for_all_greys_of_more_than_8_bits(tmp_path):
    """A dark image beside a bright one stays dark, though its values take 8 bits."""
    for name, value in (("dark", 255), ("bright", 4095)):
        pixels = np.full((4, 4), value, np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    source = data.load("folder", "train", path=str(tmp_path), stored_size=4)
    names = data.file_names("folder", "train", path=str(tmp_path), stored_size=4)
    found = np.asarray(source.dataset["image"])[:, 0, 0, 0]
    values = dict(zip(names, found.tolist(), strict=True))
    assert values == {"dark.png": 16, "bright.png": 255}  # 255 * 255 / 4095 = 15.9
    assert described(tmp_path).found[1] == (
        "  2 grey files of more than 8 bits: white is 4,095, because 2 of them have "
        "values of up to 12 bits"
    )


def test_very_many_files_are_not_all_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "MOST_HEADERS", 5)
    make(tmp_path, *(f"{k}.png" for k in range(9)))
    info = described(tmp_path)
    assert info.num_examples == {"train": 9}
    assert info.found[1] == "  looked into the first 5 files only"


def test_many_classes_are_counted(tmp_path):
    make(tmp_path, *(f"{k}/0.png" for k in range(12)), "3/1.png")
    assert ", 12 classes of 1 to 2 images, " in described(tmp_path).found[0]


def test_a_missing_split_is_explained(tmp_path):
    make(tmp_path, "a/0.png", "b/0.png")
    message = r"no split 'test'; it has train; put the images into .*/train/CLASS/ and "
    with pytest.raises(DataError, match=message):
        data.load("folder", "test", path=str(tmp_path), stored_size=4)
