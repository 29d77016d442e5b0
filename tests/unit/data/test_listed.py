"""Labels from a table, and images from a list, through the scan of a folder."""

import os

import numpy as np
import pytest
from PIL import Image

from simclr_jax import data
from simclr_jax.data import damage, scan
from simclr_jax.errors import DataError

FILES = ("a.png", "b.png", "c.png", "d.png", "e.png")


@pytest.fixture(autouse=True)
def _anew():
    scan.scan.cache_clear()
    damage.check.cache_clear()


@pytest.fixture
def photos(tmp_path):
    """Each image has one colour, by its file."""
    folder = tmp_path / "my photos"
    for k, name in enumerate(FILES):
        write(folder / name, k)
    return folder


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3), value, np.uint8)).save(path)


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return str(folder / name)


def classes(path, split="train", **options):
    """Pixel -> class of each image; None: unlabelled."""
    source = data.load("folder", split, path=str(path), stored_size=6, **options)
    names = [None if x < 0 else source.class_names[x] for x in source.labels]
    pixels = np.asarray(source.dataset["image"])[:, 0, 0, 0].tolist()
    return dict(zip(pixels, names, strict=True))


LABELS = {0: "dog", 1: "cat", 2: "dog", 3: None, 4: None}


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,dog\nb.png,cat\nc.png,dog\n",
        "a.png,dog\nb.png,cat\nc.png,dog\n",  # no head
        "Label, File, by\ndog,a.png,x\ncat,./b.png,y\n dog ,c.png,z\n",
        "\ufefffile,label\r\na.png,dog\r\nb.png,cat\r\n\r\nc.png,dog\r\nd.png,\r\n",
        'file,label\n"a.png","dog"\nb.png,cat\nc.png,dog\ngone.png,bird\n',
    ],
)
def test_a_table_labels_a_flat_folder(photos, tmp_path, text):
    path = table(tmp_path, text)
    assert classes(photos, labels=path) == LABELS
    info = data.describe("folder", path=str(photos), labels=path)
    assert info.class_names == ("cat", "dog")
    assert info.num_examples == {"train": 5}
    first, note = info.found
    assert first == f"{photos}: 5 images, 2 classes (cat 1, dog 2), 6 x 6 pixels"
    absent = "; 1 row names no image here: gone.png" if "gone" in text else ""
    assert note == f"  {path}: labels of 3 of the 5 images{absent}"


def test_labels_are_part_of_the_fingerprint(photos, tmp_path):
    prints = [
        data.describe("folder", path=str(photos), labels=path).fingerprints
        for path in (
            "",
            table(tmp_path, "a.png,x\nb.png,y\n", "1.csv"),
            table(tmp_path, "b.png,y\na.png,x\n", "2.csv"),
            table(tmp_path, "a.png,y\nb.png,x\n", "3.csv"),
        )
    ]
    assert prints[1] == prints[2]
    assert prints[0] != prints[1] != prints[3]


def test_a_table_replaces_class_folders(tmp_path):
    write(tmp_path / "photos/train/x/a.png", 1)
    write(tmp_path / "photos/train/y/b.png", 2)
    write(tmp_path / "photos/test/c.png", 3)
    text = "train/x/a.png,red\ntrain/y/b.png,blue\ntest/c.png,blue\n"
    path = table(tmp_path, text)
    assert classes(tmp_path / "photos", labels=path) == {1: "red", 2: "blue"}
    assert classes(tmp_path / "photos", "test", labels=path) == {3: "blue"}


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "file,label\nx.png,dog\n",
            r"gives none of the 5 images a label: it names x\."
            r"png, and .*my photos has a\.png, b\.png, c\.png and 2 more",
        ),
        ("file,label\na.png,\n", "gives none of the 5 images a label"),
        ("file,label\n", "names no image; its columns must be file,label"),
        ("", "names no image"),
        ("a.png,dog\na.png,cat\n", r"names a\.png twice"),
        ("a.png,dog\n./a.png,dog\n", r"names a\.png twice"),
        (None, "does not exist"),
        (b"\xff\xfe\x00", "cannot read .*labels.csv: "),
    ],
)
def test_wrong_tables_are_refused(photos, tmp_path, text, message):
    path = tmp_path / "labels.csv"
    if isinstance(text, bytes):
        path.write_bytes(text)
    elif text is not None:
        path.write_text(text)
    with pytest.raises(
        DataError,
        match=rf"^labels: .*labels\.csv {message}"
        if not isinstance(text, bytes)
        else rf"^labels: {message}",
    ):
        data.describe("folder", path=str(photos), labels=str(path))


def test_only_folders_have_a_table(tmp_path):
    with pytest.raises(DataError, match=r"^labels: it is for image files; mnist5k has"):
        data.describe("mnist5k", labels="x.csv")


@pytest.mark.parametrize("name", ["files.txt", "files.csv", "files.CSV"])
def test_a_list_of_files(photos, name):
    """Relative to the list; what it does not name is not read."""
    lines = ["a.png", "", "./c.png", " e.png ", "a.png"]
    if name.lower().endswith("csv"):
        lines = ["file", *dict.fromkeys(lines[:4])]
    path = table(photos, "\n".join(lines), name)
    os.remove(photos / "b.png")
    assert classes(path) == {0: None, 2: None, 4: None}
    info = data.describe("folder", path=path)
    assert info.num_classes == 0
    assert info.found[0] == f"{path}: 3 images, no classes, 6 x 6 pixels"


def test_a_list_with_labels_and_one_with_a_table(photos, tmp_path):
    listed = table(photos, "file,label\na.png,dog\nb.png,cat\nd.png,\n", "some.csv")
    expected = {0: "dog", 1: "cat", 3: None}
    assert classes(listed) == expected
    text = table(photos, "a.png\nb.png\nd.png\n", "some.txt")
    labels = table(tmp_path, "file,label\na.png,dog\nb.png,cat\n")
    assert classes(text, labels=labels) == expected


def test_folders_in_a_list_are_splits_and_classes(tmp_path):
    names = ("train/x/1.png", "train/y/2.png", "train/y/3.png", "val/x/4.png")
    for k, name in enumerate(names):
        write(tmp_path / name, k)
    path = table(
        tmp_path, "\n".join([names[0], names[1], names[3], "notes.doc"]), "list.txt"
    )
    (tmp_path / "notes.doc").write_text("no image")
    assert classes(path) == {0: "x", 1: "y"}
    assert classes(path, "test") == {3: "x"}
    assert "  left out: 1 .doc" in data.describe("folder", path=path).found


def test_a_list_orders_its_files_as_the_folder_does(photos):
    path = table(photos, "\n".join(reversed(FILES)), "files.txt")
    by_list, by_folder = (
        data.file_names("folder", "train", path=str(x), stored_size=6)
        for x in (path, photos)
    )
    assert by_list == by_folder
    assert (
        data.describe("folder", path=path).fingerprints
        == data.describe("folder", path=str(photos)).fingerprints
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("x.png\ny.png\n", r"names 2 files that are not in its folder: x\.png, y\.png"),
        ("\n", "but|no image file in"),
    ],
)
def test_wrong_lists_are_refused(photos, text, message):
    path = table(photos, text, "files.txt")
    with pytest.raises(DataError, match=rf"^path: .*({message})"):
        data.describe("folder", path=path)


def test_a_damaged_file_in_a_list_is_named_with_its_folder(photos):
    (photos / "b.png").write_bytes(b"no image")
    path = table(photos, "a.png\nb.png\n", "files.txt")
    with pytest.raises(DataError, match=rf"cannot read {photos}/b\.png: "):
        data.describe("folder", path=path)
    scan.scan.cache_clear()
    info = data.describe("folder", path=path, skip_damaged=1)
    assert info.num_examples == {"train": 1}
