"""Arrays and files that someone hands over, in the form of a data set's images."""

import numpy as np
import pytest
from PIL import Image

from simclr_jax.data.folder import decode
from simclr_jax.data.pictures import Form, batches, counted

RGB = Form(3, 8, (10, 10))


def photo(path, height=13, width=20, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def all_of(images, form, batch_size=2):
    found: dict[int, np.ndarray] = {}
    for positions, batch in batches(counted(images), batch_size, form):
        assert batch.dtype == np.uint8
        assert len(positions) == len(batch) <= batch_size
        found |= dict(zip(positions.tolist(), batch, strict=True))
    assert sorted(found) == list(range(len(images)))
    return [found[i] for i in range(len(images))]


def test_a_file_is_what_the_data_set_folder_makes_of_it(tmp_path):
    files = [photo(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    for image, file in zip(all_of(files, RGB), files, strict=True):
        np.testing.assert_array_equal(image, decode(str(file), 10))


def test_exif_turns_a_photo(tmp_path):
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5] = 255  # white above; turned by 180 degrees: below
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    (image,) = all_of([tmp_path / "turned.png"], RGB)
    assert image[:5].max() == 0
    assert image[5:].min() == 255


def test_an_array_of_another_size_is_what_a_file_of_it_is(tmp_path):
    file = photo(tmp_path / "photo.png")
    pixels = np.asarray(Image.open(file))
    by_array, by_file = all_of([pixels, file], RGB)
    np.testing.assert_array_equal(by_array, by_file)
    (stacked,) = all_of(pixels[None], RGB)
    np.testing.assert_array_equal(stacked, by_file)


@pytest.mark.parametrize("side", [8, 10])
def test_what_fits_is_taken_as_it_is(side):
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    np.testing.assert_array_equal(all_of(images, RGB), images)
    np.testing.assert_array_equal(all_of(list(images), RGB), images)


def test_mixed_sizes_keep_their_places():
    sides = [8, 10, 17, 8, 9]
    images = [np.full((side, side, 3), i, np.uint8) for i, side in enumerate(sides)]
    found = all_of(images, RGB, batch_size=5)
    assert [x.shape[0] for x in found] == [8, 10, 10, 8, 10]
    assert [int(x.mean()) for x in found] == [0, 1, 2, 3, 4]


def test_without_a_stored_shape_an_array_stays_and_a_photo_is_squared(tmp_path):
    form = Form(3, 8, None)
    images = np.zeros((2, 20, 12, 3), np.uint8)
    assert all_of(images, form)[0].shape == (20, 12, 3)
    assert all_of([photo(tmp_path / "a.png")], form)[0].shape == (8, 8, 3)


def test_colours_become_grey_as_pillow_does_it():
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), np.uint8)
    with pytest.warns(UserWarning, match="colour ones become grey") as said:
        found = all_of(images, Form(1, 8, (8, 8)))
    assert len(said) == 1  # in two batches
    for grey, image in zip(found, images, strict=True):
        wanted = np.asarray(Image.fromarray(image).convert("L"))
        np.testing.assert_array_equal(grey[..., 0], wanted)


def test_grey_becomes_rgb_and_a_grey_file_is_no_surprise(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    with pytest.warns(UserWarning, match="grey ones become RGB"):
        (image,) = all_of([grey], Form(3, 8, (8, 8)))
    np.testing.assert_array_equal(image, np.stack([grey] * 3, -1))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    (image,) = all_of([tmp_path / "grey.png"], Form(1, 8, (8, 8)))  # no warning
    np.testing.assert_array_equal(image[..., 0], grey)


@pytest.mark.parametrize(
    "images, words",
    [
        ([], "no images"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no images"),
        (np.zeros((8, 8, 3), np.uint8), "a single image goes in a list"),
        (np.zeros((2, 8, 8, 3), np.float32), "uint8"),
        ([np.zeros((8, 8, 3))], "uint8"),
        (np.zeros((2, 8, 8, 4), np.uint8), "4 channels"),
        ([np.zeros((9, 9, 4), np.uint8)], "4 channels"),
    ],
)
def test_what_cant_be_used_is_said(images, words):
    with pytest.raises(ValueError, match=words):
        all_of(images, RGB)


def test_files_that_cant_be_read_are_named(tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(ValueError, match=r"cannot read .*torn\.jpg"):
        all_of([tmp_path / "torn.jpg"], RGB)
    with pytest.raises(ValueError, match="is a folder"):
        all_of([tmp_path], RGB)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone\.jpg"):
        all_of([str(tmp_path / "gone.jpg")], RGB)
