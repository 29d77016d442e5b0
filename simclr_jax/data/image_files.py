"""Opens one image file and makes 8-bit pixels of whatever is in it, with Pillow."""

import functools
import importlib.util
import os
import stat
import warnings
from typing import Any

import numpy as np

# Pillow's formats that may be opened, whatever a file's name says: an EPS named x.jpg
# would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "HEIF")
_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
)
_TAIL = 4096  # bytes in which a file's end mark is looked for
_QUIET = r"PIL\."  # the modules whose warnings are not shown
HEIF_SUFFIXES = (".heic", ".heif")  # read with the package pillow-heif


@functools.cache
def suffixes() -> tuple[str, ...]:
    """The lower-case suffixes of the files that can be read here."""
    heif = importlib.util.find_spec("pillow_heif") is not None
    return _SUFFIXES + HEIF_SUFFIXES * heif


def read(path: str | os.PathLike, channels: int = 3, *, bits: int = 0) -> np.ndarray:
    """The pixels of an image file, upright by its EXIF orientation.

    Palette, CMYK and 1-bit images are converted. Transparency is dropped. An animation
    gives its first frame. See `decode` for files of more than 8 bits.

    Args:
      path: a regular file in one of the formats of `suffixes`, whatever its name.
      channels: 3 for RGB, 1 for grey.
      bits: as for `decode`.

    Returns:
      uint8 [H, W, channels].

    Raises:
      OSError, ValueError or another error of Pillow's decoders: it can't be read.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        pixels = _converted(ImageOps.exif_transpose(image), channels, bits)
        array = np.asarray(pixels)
    return array if channels == 3 else array[..., None]


def decode(path: Any, size: int, *, bits: int = 0) -> np.ndarray:
    """The central square of an image, resized to `size` pixels a side, in RGB.

    Resizing is bilinear with antialiasing. Otherwise as `read`.

    Args:
      path: as for `read`, or a file that is open.
      size: pixels.
      bits: of a greyscale image with more than 8 bits, how many are used: white is
        2**bits - 1. 0 takes the fewest, at least 8, that hold its largest value.
        16-bit colours are cut to their upper 8 bits, as Pillow reads them.

    Returns:
      uint8 [size, size, 3].

    Raises:
      OSError, ValueError or another error of Pillow's decoders: it can't be read.
    """
    from PIL import Image, ImageOps  # slow, and error messages must not wait for it

    with _opened(path) as image:
        # Decodes a JPEG at an eighth to a half of its size if that is enough.
        image.draft("RGB", (2 * size, 2 * size))
        upright = ImageOps.exif_transpose(image)
        side = min(upright.size)
        left, top = ((length - side) / 2 for length in upright.size)
        square = _converted(upright, 3, bits).resize(
            (size, size),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
        return np.asarray(square)


def header(path: str | os.PathLike) -> tuple[int, int, str]:
    """Width, height and Pillow's mode, read without the pixels.

    Raises:
      OSError, ValueError or another error of Pillow's: it is no image.
    """
    with _opened(path) as image:
        return *image.size, image.mode


def looks_cut(path: str | os.PathLike) -> bool:
    """Whether a JPEG or PNG does not end as such a file should.

    That takes no decoding. A file that looks cut may be whole: some phones put more
    behind the picture.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        tail = file.read()
    if start.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail  # a marker; no pixels are stored as these bytes
    return start == b"\x89PNG\r\n\x1a\n" and b"IEND" not in tail


def deep(mode: str) -> bool:
    """Whether an image of this mode has greys of more than 8 bits."""
    return mode.startswith("I")


def largest(path: str | os.PathLike) -> int:
    """The largest value in a greyscale image of more than 8 bits, at most 65,535."""
    with _opened(path) as image:
        return int(np.asarray(image).max(initial=0).clip(0, 65_535))


def bits_for(value: int) -> int:
    """The fewest bits, at least 8, that hold a value."""
    return max(8, int(value).bit_length())


def _opened(path: Any) -> Any:
    """The image of a file, not decoded yet; to be closed."""
    from PIL import Image

    # Pillow warns about large images and odd EXIF but reads them. Not by
    # catch_warnings, which threads can't share.
    if not any(getattr(rule[3], "pattern", "") == _QUIET for rule in warnings.filters):
        warnings.filterwarnings("ignore", module=_QUIET)
    if isinstance(path, str | os.PathLike) and not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")  # to open a pipe would wait for ever
    return Image.open(path, formats=_formats())


@functools.cache
def _formats() -> list[str]:
    from PIL import Image

    if ".heic" in suffixes():
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _converted(image: Any, channels: int, bits: int) -> Any:
    """The image in 8-bit RGB or grey."""
    from PIL import Image

    if image.mode == "F":
        image = Image.fromarray(_float_greys(np.asarray(image), bits))
    elif deep(image.mode):  # Pillow would keep the lower 8 bits
        image = Image.fromarray(_greys(np.asarray(image), bits))
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB" if channels == 3 else "L")


def _greys(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers as 8-bit greys."""
    values = values.astype(np.int64).clip(0, 65_535)
    white = 2 ** (bits or bits_for(values.max(initial=0))) - 1
    return ((510 * values.clip(0, white) + white) // (2 * white)).astype(np.uint8)


def _float_greys(values: np.ndarray, bits: int) -> np.ndarray:
    """Floating-point numbers as 8-bit greys: white is 1, or 255, or as for integers."""
    most = values.max(initial=0)
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and most < 65_536):
        raise ValueError("its pixels are floating-point numbers outside 0 to 65,535")
    if most <= 255:
        scale = 255 if most <= 1 else 1
        return np.rint(values * scale).astype(np.uint8)
    return _greys(np.rint(values), bits)
