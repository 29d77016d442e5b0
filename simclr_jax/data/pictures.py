"""Images that someone hands over, as arrays or files, in the form of a data set's.

A network was trained on images of one stored shape. Any other image gives its central
square, resized (bilinear, antialiased), as the data set "folder" does it.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from simclr_jax.data.damage import reason
from simclr_jax.data.image_files import decode

# What `batches` takes: uint8 [N, H, W, C], or arrays [H, W, C] and names of files.
Pictures = np.ndarray | Sequence[Any] | str | os.PathLike


class Form(NamedTuple):
    """The images that a network takes.

    Attributes:
      channels: of the images; 3 are RGB, 1 is grey.
      size: the side at which it sees them.
      stored: their (height, width) before that; None: not known, then `size`.
      bits: of greyscale files with more than 8; see `image_files.decode`.
    """

    channels: int
    size: int
    stored: tuple[int, int] | None
    bits: int = 0

    @property
    def side(self) -> int:
        """Of the square that an image of another shape becomes."""
        return min(self.stored) if self.stored else self.size

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this height and width is taken as it is."""
        return shape in ((self.size, self.size), self.stored)


def counted(images: Pictures) -> np.ndarray | list[Any]:
    """The images as one array or as a list, checked as far as no file is opened.

    Raises:
      ValueError: there are none, or an array is not uint8 [N, H, W, C].
    """
    if isinstance(images, str | os.PathLike):
        images = [images]
    whole: Any = images
    if hasattr(images, "ndim"):
        whole = np.asarray(images)
        if whole.ndim != 4 or whole.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [N, H, W, C], got {whole.dtype} "
                f"{list(whole.shape)}; a single image goes in a list"
            )
    else:
        whole = list(images)
    if not len(whole):
        raise ValueError("there are no images")
    return whole


def batches(
    images: np.ndarray | list[Any], batch_size: int, form: Form
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images in batches of one shape each.

    Args:
      images: as `counted` returns them.
      batch_size: images in a batch, at most.
      form: what the network takes.

    Yields:
      `(positions [B], uint8 [B, h, w, C])`, with (h, w) for which `form.fits`, or of
      any one size if no stored shape is known.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a file can't be read, or an array has no fitting channels.
    """
    convert = _Channels(form.channels)
    as_they_are = isinstance(images, np.ndarray) and (
        form.fits(images.shape[1:3]) or form.stored is None
    )
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), batch_size):
            given = images[start : start + batch_size]
            positions = np.arange(start, start + len(given))
            if as_they_are:
                yield positions, convert(np.asarray(given))
                continue
            arrays = pool.map(lambda image: _array(image, form), given)
            groups: dict[tuple[int, ...], tuple[list[int], list[np.ndarray]]] = {}
            for position, array in enumerate(arrays, start):
                array = convert(array)
                places, members = groups.setdefault(array.shape, ([], []))
                places.append(position)
                members.append(array)
            for places, members in groups.values():
                yield np.array(places), np.stack(members)


def _array(image: Any, form: Form) -> np.ndarray:
    """uint8 [h, w, C] of a shape that fits, of a file or an array."""
    if isinstance(image, str | os.PathLike):
        return _decoded(os.fspath(image), form.side, form.bits)
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.dtype != np.uint8:
        raise ValueError(
            f"an image must be a file or uint8 [H, W, C], got {array.dtype} "
            f"{list(array.shape)}"
        )
    return array if form.fits(array.shape[:2]) else _square(array, form.side)


def _decoded(file: str, side: int, bits: int) -> np.ndarray:
    if os.path.isdir(file):
        raise ValueError(f"{file} is a folder; give the files in it")
    try:
        return decode(file, side, bits=bits)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {file}") from None
    except ImportError:
        raise
    # Pillow's decoders raise errors of many types for damaged bytes.
    except Exception as error:
        raise ValueError(f"cannot read {file}: {reason(error, file)}") from error


def _square(array: np.ndarray, side: int) -> np.ndarray:
    """The central square, resized to `side`."""
    from PIL import Image  # only for images of another shape

    height, width, channels = array.shape
    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2

    def resized(plane: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(plane)).resize(
            (side, side),
            Image.Resampling.BILINEAR,
            box=(left, top, left + short, top + short),
        )
        return np.asarray(image)

    if channels == 3:
        return resized(array)
    return np.stack([resized(array[..., c]) for c in range(channels)], axis=-1)


class _Channels:
    """Makes colour images grey, or grey ones RGB; says so once."""

    def __init__(self, channels: int):
        self._channels, self._said = channels, False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [..., c] -> uint8 [..., channels]."""
        given = images.shape[-1]
        if given == self._channels:
            return images
        if {given, self._channels} != {1, 3}:
            raise ValueError(
                f"the images have {given} channels; the encoder takes {self._channels}"
            )
        if self._channels == 3:
            self._say("the encoder takes colour images; grey ones become RGB")
            return np.repeat(images, 3, axis=-1)
        red, green, blue = np.moveaxis(images.astype(np.uint32), -1, 0)
        # A grey picture in a file is decoded as RGB of three equal channels.
        if (red != green).any() or (red != blue).any():
            self._say("the encoder takes grey images; colour ones become grey")
        # ITU-R BT.601 in 16 bits, as Pillow's convert("L").
        grey = (19_595 * red + 38_470 * green + 7_471 * blue + 32_768) >> 16
        return grey.astype(np.uint8)[..., None]

    def _say(self, message: str) -> None:
        if not self._said:
            self._said = True
            warnings.warn(message, stacklevel=5)
