"""Images inside HTML: sprites and thumbnails."""

import base64
import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny import squares

from simclr_jax.report import gallery, images, maps


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sprite_has_image_i_in_row_and_column_of_i(channels, tmp_path):
    rng = np.random.default_rng(0)
    # Plain tiles of JPEG's 8 pixels: colours change little, places not at all.
    tiles = rng.integers(0, 256, (7, 1, 1, channels), np.uint8)
    tiles = tiles.repeat(8, axis=1).repeat(16, axis=2)
    uri, columns = images.sprite(tiles)
    file = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    sheet = np.asarray(Image.open(file)).reshape(24, 48, channels)
    assert columns == 3
    for i, tile in enumerate(tiles):
        y, x = 8 * (i // 3), 16 * (i % 3)
        shown = sheet[y : y + 8, x : x + 16]
        # Colour is stored at half the resolution: across an edge it may smear.
        np.testing.assert_allclose(shown[2:-2, 4:-4], tile[2:-2, 4:-4], atol=12)


def test_large_images_shrink_and_small_ones_do_not():
    assert images.thumbnail(np.zeros((224, 112, 3), np.uint8)).shape == (64, 32, 3)
    assert images.thumbnail(np.zeros((128, 128, 1), np.uint8)).shape == (64, 64, 1)
    small = squares(1, 0)[0][0]
    assert images.thumbnail(small) is small


@pytest.mark.parametrize(
    "labels, test_split, expected",
    [
        ([0, -1], "test", ("test images", "training images")),
        ([0, -1], "train", ("images", "images")),
        ([-1, -1], "train", ("images", "images")),
        ([-1, -1], "test", ("images without labels", "training images")),
    ],
)
def test_images_are_called_what_they_are(labels, test_split, expected):
    fields = SimpleNamespace(test_split=test_split, train_split="train")
    experiment = SimpleNamespace(
        config=SimpleNamespace(data=fields),
        images=SimpleNamespace(test=SimpleNamespace(labels=np.array(labels))),
    )
    assert images.called(experiment) == expected


def test_images_have_the_names_of_their_files(run, photos):
    """Each picture stands with the name of its own file, whatever the order."""
    files = run.images.file_names("train")
    assert sorted(files) == sorted(
        str(x.relative_to(photos)) for x in photos.rglob("*.png")
    )
    for file, pixels in zip(
        files, gallery.images(run.images.train, np.arange(24)), strict=True
    ):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(photos / file)))
    shown = gallery.load(run)
    text = images.neighbours(run, shown)
    figures = re.findall(
        r'title="([^",]*)[^"]*"><img[^>]*><figcaption>(.*?)</fig', text
    )
    assert len(figures) >= 12 * 6
    for file, caption in figures:
        colour, name = file.split("/")
        assert (photos / file).exists()
        assert caption.endswith(f"{colour}<small>{name}</small>")
    about = re.search(r'id="map-data">(.*?)</script>', maps.sections(run, shown))
    found = json.loads(about[1])
    assert found["files"] == [files[k] for k in shown.mapped]
    assert [x.split("/")[0] for x in found["files"]] == found["names"]
    assert found["alike"] == shown.alike.tolist()
