"""A fingerprint follows the images wherever they lie, and notices each change."""

import shutil

import numpy as np
import pytest
from PIL import Image
from tiny import write_npz

from simclr_jax import data
from simclr_jax.data.fingerprint import changed


def prints(name, path):
    return data.open_dataset(name, path=str(path)).info.fingerprints


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for k in range(4):
            place = folder / split / "ab"[k % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(256, size=(9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{k}.png")
    return folder


def copied(photos):
    """Elsewhere, because a process looks at a folder once."""
    return shutil.copytree(photos, photos.with_name("copy"))


def test_the_same_photos_elsewhere(photos):
    assert changed(prints("folder", photos), prints("folder", copied(photos))) == ""


def remove(folder):
    (folder / "train" / "a" / "0.png").unlink()


def rename(folder):
    (folder / "train" / "a" / "0.png").rename(folder / "train" / "a" / "9.png")


def relabel(folder):
    (folder / "train" / "a" / "0.png").rename(folder / "train" / "b" / "0.png")


def resize(folder):
    Image.new("RGB", (30, 30)).save(folder / "train" / "a" / "0.png")


@pytest.mark.parametrize(
    "change, what",
    [
        (remove, "train had 4 images, now 3"),
        (rename, "train still has 4 images, but other names"),
        (relabel, "train still has 4 images, but other names"),
        (resize, "train still has 4 images, but other names"),
    ],
)
def test_changed_photos(photos, change, what):
    other = copied(photos)
    change(other)
    assert changed(prints("folder", photos), prints("folder", other)).startswith(what)


def test_an_added_split_changes_none(photos):
    other = copied(photos)
    shutil.copytree(other / "test", other / "extra")
    assert changed(prints("folder", photos), prints("folder", other)) == ""


@pytest.mark.parametrize("array", ["train_images", "train_labels"])
def test_one_number_of_an_archive(tmp_path, array):
    one, other = tmp_path / "a.npz", tmp_path / "b.npz"
    write_npz(one)
    with np.load(one) as archive:
        arrays = dict(archive)
    np.savez(other, **arrays)
    assert changed(prints("npz", one), prints("npz", other)) == ""
    first = arrays[array].reshape(-1)[0]
    arrays[array].reshape(-1)[0] = first - 1 if first else 1
    np.savez(other, **arrays)
    what = changed(prints("npz", one), prints("npz", other))
    assert what.startswith("train still has 64 images, but other")


def test_older_runs_know_nothing_and_are_not_refused():
    assert changed({}, {"train": {"images": 3, "digest": "x"}}) == ""
