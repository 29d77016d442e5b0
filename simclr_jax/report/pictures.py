"""Images as HTML pages hold them: small PNGs inside the page itself."""

import base64
import html
import io
import math

import numpy as np
from PIL import Image

_THUMBNAIL = 64  # pixels; larger images are shrunk, smaller ones kept as they are


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] with at most 64 pixels a side."""
    if max(pixels.shape[:2]) <= _THUMBNAIL:
        return pixels
    picture = _picture(pixels)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(picture).reshape(*picture.size[::-1], pixels.shape[2])


def tag(pixels: np.ndarray, alt: str) -> str:
    """An <img> of uint8 [H, W, C]."""
    return f'<img src="{_uri(pixels)}" alt="{html.escape(alt)}">'


def sprite(pixels: np.ndarray) -> tuple[str, int]:
    """Many images as one, row by row.

    Args:
      pixels: uint8 [N, H, W, C], N at least 1.

    Returns:
      (data URI of the picture, images in a row of it).
    """
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = pixels
    grid = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = grid.reshape(rows * height, columns * width, channels)
    # A thousand colour images: 0.6 MB as JPEG, 3 MB as PNG.
    return _uri(sheet, "jpeg" if channels == 3 else "png"), columns


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _uri(pixels: np.ndarray, kind: str = "png") -> str:
    file = io.BytesIO()
    _picture(pixels).save(file, kind, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
