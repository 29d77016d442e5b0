"""A folder of image files: its splits and classes, and whatever a camera writes."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from simclr_jax import data
from simclr_jax.data import damage, folder, scan
from simclr_jax.data._tensorflow import resized
from simclr_jax.errors import DataError


def forget():
    """A folder is scanned once in a process, and the tests change theirs."""
    scan.scan.cache_clear()
    damage.check.cache_clear()


def write(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if image is None:
        image = Image.new("RGB", (12, 10))
    image.save(path, **options)


@pytest.fixture
def classes(tmp_path):
    """Two classes in train and test, and images without."""
    for split, count in (("train", 6), ("test", 2)):
        for k in range(count):
            write(tmp_path / split / "cat" / f"{k}.png")
            write(tmp_path / split / "a dog" / "deeper" / f"{k}.JPG", quality=90)
    write(tmp_path / "unlabelled" / "x.webp")
    write(tmp_path / ".thumbnails" / "cat" / "0.png")
    write(tmp_path / "train" / "cat" / "._0.png")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def load(path, split="train", **options):
    options = {"stored_size": 8} | options
    return data.load("folder", split, path=str(path), **options)


def test_folders_are_splits_and_classes(classes):
    info = data.describe("folder", path=str(classes))
    assert info.num_examples == {"train": 12, "test": 4, "unlabelled": 1}
    assert info.class_names == ("a dog", "cat")
    train = load(classes)
    assert np.bincount(train.labels).tolist() == [6, 6]
    assert train.image_shape == (8, 8, 3)
    # In stored order, label and file belong together.
    names = data.file_names("folder", "train", path=str(classes), stored_size=8)
    dogs = [name.endswith("JPG") for name in names]
    np.testing.assert_array_equal(np.array(dogs), train.labels == 0)
    np.testing.assert_array_equal(load(classes, "unlabelled").labels, [-1])


def test_a_folder_without_train_is_one_split_without_labels(tmp_path):
    for place in ("", "2019", "2020/summer"):
        write(tmp_path / place / "a.png")
    info = data.describe("folder", path=str(tmp_path))
    assert info.num_examples == {"train": 3}
    assert info.num_classes == 0
    np.testing.assert_array_equal(load(tmp_path).labels, [-1, -1, -1])


def test_the_first_n_are_a_sample_that_more_images_do_not_reorder(tmp_path):
    for k in range(40):
        write(tmp_path / "train" / f"class_{k // 20}" / f"{k:03}.png")
    before = data.file_names("folder", "train", path=str(tmp_path), stored_size=8)
    twenty = load(tmp_path, limit=20).labels
    assert 5 <= twenty.sum() <= 15  # sorted by name it would be 0
    for k in range(40, 60):
        write(tmp_path / "train" / "class_1" / f"{k:03}.png")
    forget()
    after = data.file_names("folder", "train", path=str(tmp_path), stored_size=8)
    assert [name for name in after if name in before] == before


@pytest.mark.parametrize("streaming", [False, True])
def test_damaged_files_are_skipped_up_to_a_number(classes, streaming):
    """Found before anything is read: batches stay full and the order is that of the
    files that remain."""
    rng = np.random.default_rng(0)
    for k in range(6):  # noise, so that half a file is no whole image
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        write(classes / f"train/a dog/deeper/{k}.JPG", Image.fromarray(pixels))
    cut, text = (classes / f"train/a dog/deeper/{k}.JPG" for k in (1, 4))
    cut.write_bytes(cut.read_bytes()[:800])
    text.write_text("hello")
    options = {"path": str(classes), "stored_size": 8}
    found = r"^path: cannot read 2 of .*(not an image|truncated).* skip so many"
    refused(classes, found)
    refused(
        classes,
        r"^path: cannot read 2 of the 17 image files in .*: "
        r".*(1\.JPG .*truncated.*4\.JPG|4\.JPG.*1\.JPG .*truncated).*"
        r"let `skip_damaged` skip so many \(it is 1\)$",
        skip_damaged=1,
    )
    info = data.describe("folder", path=str(classes), skip_damaged=2)
    assert info.num_examples["train"] == 10
    assert re.search(r"skipped as damaged: .*\.JPG \(.*\), .*\.JPG", info.found[-1])
    source = load(classes, streaming=streaming, skip_damaged=2)
    assert np.bincount(source.labels).tolist() == [4, 6]
    names = data.file_names("folder", "train", skip_damaged=2, **options)
    kept = [row for batch in source.ordered(5) for row in data.take(batch)["image"]]
    cut.unlink()
    text.unlink()
    forget()
    assert names == data.file_names("folder", "train", **options)
    whole = load(classes, streaming=streaming)
    expected = [row for batch in whole.ordered(5) for row in data.take(batch)["image"]]
    np.testing.assert_array_equal(kept, expected)


def test_a_file_damaged_during_a_run_is_named(tmp_path):
    """Also in a stream that goes on."""
    for k in range(6):
        write(tmp_path / f"{k}.png")
    stream = load(tmp_path, streaming=True, skip_damaged=3)
    (tmp_path / "3.png").unlink()
    message = r"^path: cannot read .*/3\.png: No such file or directory; repair it"
    with pytest.raises(DataError, match=message):
        list(stream.ordered(2))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cut_file_is_found_before_anything_is_read(tmp_path, suffix):
    """Its header is whole. A file with more behind the picture is no cut one."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for k in range(3):
        write(tmp_path / f"{k}.{suffix}", Image.fromarray(pixels))
    cut, long = tmp_path / f"0.{suffix}", tmp_path / f"1.{suffix}"
    long.write_bytes(long.read_bytes() + bytes(10_000))
    assert data.describe("folder", path=str(tmp_path)).num_examples == {"train": 3}
    cut.write_bytes(cut.read_bytes()[:-100])
    forget()
    with pytest.raises(DataError, match=rf"^path: cannot read .*/0\.{suffix}: .*trunc"):
        data.describe("folder", path=str(tmp_path))


def test_links_are_followed_once(tmp_path):
    write(tmp_path / "elsewhere" / "a.png")
    photos = tmp_path / "photos"
    write(photos / "b.png")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "round").symlink_to(photos)
    assert data.describe("folder", path=str(photos)).num_examples == {"train": 2}


def refused(path, message, **options):
    with pytest.raises(DataError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_one_line_that_names_the_field(classes, tmp_path):
    refused("", r"^path: empty")
    refused(tmp_path / "none", r"^path: .*/none does not exist")
    refused(classes / "train/cat/0.png", "0.png is not a folder")
    (tmp_path / "void").mkdir()
    refused(tmp_path / "void", r"no image file in .*/void; image files end in \.jpg")
    refused(classes, r"stored_size: .* vary in size", stored_size=0)
    refused(classes, "no split 'val'; it has test, train, unlabelled", split="val")
    refused(classes, r"limit: 13 is more than the 12 images", limit=13)
    write(classes / "test" / "Cat" / "0.png")
    forget()
    refused(classes, r"/test has the class folder 'Cat', which .*/train lacks")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_named(tmp_path, damage, streaming):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for k in range(4):
        write(tmp_path / f"{k}.jpg", Image.fromarray(pixels))
    file = tmp_path / "2.jpg"
    whole = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[damage]
    )
    message = rf"^path: cannot read {re.escape(str(file))}: .*; repair it"
    with pytest.raises(DataError, match=message) as caught:
        list(load(tmp_path, streaming=streaming).ordered(2))
    assert "\n" not in str(caught.value)


def test_resizing_is_that_of_the_other_data_sets(tmp_path):
    """Short side to size, then the middle; against tf.image."""
    rng = np.random.default_rng(0)
    for shape in ((32, 64), (64, 32), (16, 16), (4, 4)):
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
        write(tmp_path / "x.png", Image.fromarray(pixels))
        expected = resized(pixels, 16).numpy()
        found = folder.decode(str(tmp_path / "x.png"), 16)
        assert np.abs(found.astype(int) - expected).max() <= 1  # rounding


def test_a_large_jpeg_is_what_its_full_decoding_gives(tmp_path):
    """`draft` decodes an eighth of the pixels: the same picture, only sooner."""
    y, x = np.mgrid[:800, :1200]
    waves = 127 + 100 * np.sin(x / 90) * np.cos(y / 70)
    pixels = np.stack([waves, waves[::-1], waves[:, ::-1]], -1).astype(np.uint8)
    write(tmp_path / "x.jpg", Image.fromarray(pixels), quality=95)
    expected = resized(pixels, 32).numpy()
    found = folder.decode(str(tmp_path / "x.jpg"), 32)
    assert np.abs(found.astype(int) - expected).max() <= 4


def test_a_folder_needs_no_tensorflow(classes):
    """Resident and streamed, in a process where importing it fails."""
    script = f"""
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from simclr_jax import data
for streaming in (False, True):
    source = data.load("folder", "train", path={str(classes)!r}, stored_size=8,
                       streaming=streaming)
    batch = data.take(next(source.batches(4, seed=(0,))))
    print(type(source).__name__, batch["image"].shape, source.num_classes)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "Resident (4, 8, 8, 3) 2\nStream (4, 8, 8, 3) 2\n"
    assert done.stderr == ""


def test_orientation_and_colours_of_every_kind(tmp_path):
    """A red left half; each file says so in its own way."""
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :4] = [255, 0, 0]
    image = Image.fromarray(red)
    grey = np.zeros((8, 8), np.uint8)
    grey[:, :4] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    sideways = Image.fromarray(np.rot90(red, 1))
    kinds = {
        "rgb.png": (image, {}),
        "rgb.bmp": (image, {}),
        "rgb.webp": (image, {"lossless": True}),
        "palette.gif": (image.convert("P"), {}),
        "alpha.png": (image.convert("RGBA"), {}),
        "cmyk.tif": (image.convert("CMYK"), {}),
        "turned.png": (sideways, {"exif": exif}),
    }
    for name, (made, options) in kinds.items():
        write(tmp_path / name, made, **options)
        found = folder.decode(str(tmp_path / name), 8).astype(int)
        assert np.abs(found - red).max() <= 2, name
    deep = (grey.astype(np.uint16) * 257).astype(np.uint16)
    bits = Image.fromarray(grey > 100)
    for name, made, light in (
        ("grey.png", Image.fromarray(grey), 200),
        ("16 bits.png", Image.fromarray(deep), 200),
        ("1 bit.png", bits, 255),
    ):
        write(tmp_path / name, made)
        found = folder.decode(str(tmp_path / name), 8)
        expected = np.where(grey[..., None] > 0, light, 0).repeat(3, -1)
        np.testing.assert_array_equal(found, expected, name)


def test_a_stream_gives_the_batches_of_a_resident(classes):
    """Same images and labels in the same drawn order, from any step."""
    rng = np.random.default_rng(0)
    for file in sorted(classes.glob("train/**/*.png")):
        write(file, Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)))
    stream, resident = load(classes, streaming=True), load(classes)
    assert isinstance(stream, data.Stream)
    assert isinstance(resident, data.Resident)
    pairs = [x.batches(5, seed=(3,), start=1) for x in (stream, resident)]
    for _ in range(4):
        one, other = (data.take(next(batches)) for batches in pairs)
        for name in ("image", "label", "index"):
            np.testing.assert_array_equal(one[name], other[name])
