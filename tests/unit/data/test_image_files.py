"""One image file of any kind becomes 8-bit pixels; values from closed forms."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from simclr_jax.data import image_files


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def ramp(count: int, highest: int) -> np.ndarray:
    """[8, count] of whole numbers from 0 to `highest`."""
    return np.tile(np.linspace(0, highest, count).round(), (8, 1))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_greys_of_more_than_8_bits_keep_their_range(tmp_path, ending, bits):
    """12-bit content in a 16-bit file would be 17 greys if white were 65,535."""
    white = 2**bits - 1
    values = ramp(256, white)
    path = saved(tmp_path / f"x.{ending}", values.astype(np.uint16))
    found = image_files.read(path, 1)
    assert (found.shape, found.dtype) == ((8, 256, 1), np.uint8)
    np.testing.assert_array_equal(found[..., 0], np.rint(values * 255 / white))
    assert len(np.unique(found)) == 256
    assert image_files.deep(image_files.header(path)[2])
    assert image_files.largest(path) == white


def test_the_bits_can_be_given():
    """A dark image of a bright set stays dark; what is brighter than white is white."""
    values = np.array([[0, 128, 255, 4095, 5000]], np.uint16)
    for bits, expected in (
        (12, [0, 8, 16, 255, 255]),  # 128 * 255 / 4095 = 7.97, 255 * 255 / 4095 = 15.9
        (16, [0, 0, 1, 16, 19]),  # / 257: 0.498, 0.99, 15.93, 19.46
        (0, [0, 4, 8, 127, 156]),  # 5,000 takes 13 bits: * 255 / 8191
    ):
        assert image_files._greys(values, bits)[0].tolist() == expected
    assert [image_files.bits_for(x) for x in (0, 255, 256, 4095, 65_535)] == [
        *(8, 8, 9, 12, 16)
    ]


def test_whole_32_bit_numbers_are_read(tmp_path):
    values = np.array([[0, 1000, 4095]], np.int32)
    path = saved(tmp_path / "x.tif", values)
    assert image_files.read(path, 1)[0, :, 0].tolist() == [0, 62, 255]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # 127.5 to the even number
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([0.0, 1000.0, 4095.0], [0, 62, 255]),
    ],
)
def test_floating_point_greys(tmp_path, values, expected):
    path = saved(tmp_path / "x.tif", np.array([values], np.float32))
    assert image_files.read(path, 1)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf"), 70_000.0])
def test_floating_point_numbers_without_a_meaning_are_refused(tmp_path, wrong):
    path = saved(tmp_path / "x.tif", np.array([[0.0, wrong]], np.float32))
    with pytest.raises(ValueError, match="outside 0 to 65,535"):
        image_files.read(path)


def test_modes_become_rgb(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255] * 3]], np.uint8)
    colours = colours.repeat(4, 0)
    alpha = np.dstack([colours, np.full(colours.shape[:2], 7, np.uint8)])
    for name, array, mode in (
        ("palette.png", colours, "P"),
        ("palette.gif", colours, "P"),
        ("alpha.png", alpha, None),
        ("alpha.webp", alpha, None),
        ("cmyk.tif", colours, "CMYK"),
        ("plain.ppm", colours, None),
        ("plain.bmp", colours, None),
    ):
        lossless = {"lossless": True, "exact": True} if "webp" in name else {}
        path = saved(tmp_path / name, array, mode, **lossless)
        np.testing.assert_array_equal(image_files.read(path), colours, name)
    bits = np.eye(4, dtype=bool)
    for name in ("one.png", "one.pbm", "one.tif"):
        found = image_files.read(saved(tmp_path / name, bits))
        expected = np.dstack([bits * 255] * 3)
        np.testing.assert_array_equal(found, expected, name)
    # ITU-R 601: 0.299, 0.587 and 0.114 of 255.
    grey = image_files.read(tmp_path / "plain.bmp", 1)[0, :, 0]
    assert grey.tolist() == [76, 150, 29, 255]


@pytest.mark.parametrize("suffix", image_files.suffixes())
def test_what_has_a_suffix_can_be_read(tmp_path, suffix):
    if suffix in image_files.HEIF_SUFFIXES:
        pytest.importorskip("pillow_heif")
    grey = np.full((16, 16), 255, np.uint8)
    if suffix == ".pbm":
        image = Image.fromarray(grey > 0)
    else:
        image = Image.fromarray(grey if suffix == ".pgm" else np.dstack([grey] * 3))
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM"}
    image.save(tmp_path / f"x{suffix}", kinds.get(suffix))
    found = image_files.read(tmp_path / f"x{suffix}")
    assert found.shape == (16, 16, 3)
    assert (found >= 254).all()


def test_the_first_frame_and_the_orientation(tmp_path):
    first, second = (Image.new("L", (4, 2), value) for value in (9, 200))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert (image_files.read(tmp_path / "x.gif") == 9).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    first.save(tmp_path / "x.png", exif=exif)
    assert image_files.read(tmp_path / "x.png").shape == (4, 2, 3)
    assert image_files.header(tmp_path / "x.png") == (4, 2, "L")  # as stored


def test_a_postscript_file_is_not_run(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, whatever its name."""
    from PIL import EpsImagePlugin

    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")
    path = (tmp_path / "x.eps").rename(tmp_path / "x.jpg")
    with Image.open(path) as image:
        assert image.format == "EPS"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: 1 / 0)
    with pytest.raises(OSError, match="cannot identify"):
        image_files.read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(OSError, match="not a regular file"):
        image_files.read(tmp_path / "x.png")


def test_warnings_of_pillow_are_not_shown(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # warns from 30 to 60 pixels
    path = saved(tmp_path / "x.png", np.zeros((6, 8, 3), np.uint8))
    assert image_files.read(path).shape == (6, 8, 3)
    assert not recwarn.list


def test_heic_needs_its_package(monkeypatch):
    image_files.suffixes.cache_clear()
    for there in (None, object()):
        monkeypatch.setattr(image_files.importlib.util, "find_spec", lambda name: there)
        assert (".heic" in image_files.suffixes()) is (there is not None)
        image_files.suffixes.cache_clear()
    assert "pillow_heif" not in sys.modules
