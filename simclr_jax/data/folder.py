"""Reads a folder of image files: "folder", one's own images as they are.

    PATH/**/*.jpg              one split, `train`, without labels
    PATH/SPLIT/CLASS/*.jpg     split SPLIT with classes; one of them is `train`
    PATH/SPLIT/*.jpg           split SPLIT without labels, as `unlabelled`

Pillow decodes, since it knows what cameras and phones write; tf.data runs it in
parallel.
"""

import functools
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simclr_jax.data._tensorflow import tensorflow
from simclr_jax.data.order import permuted
from simclr_jax.data.reader import Batch, Info, check_split, limited, stored_shape
from simclr_jax.errors import DataError, one_line

NAME = "folder"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


class _Split(NamedTuple):
    files: tuple[str, ...]  # below the folder, in stored order
    classes: tuple[str | None, ...]  # of each file


class FolderDataset:
    """The folder at `path`; opens no image. See reader.Dataset.

    Raises:
      DataError: there is no such folder, no image in it, or a class that `train` does
        not have.
    """

    def __init__(self, name: str, path: str):
        counts = {split: len(found.files) for split, found in _splits(path).items()}
        names = _class_names(path)
        self._path = path
        self.info = Info(
            name, counts, len(names), names, (None, None, 3), file_names=True
        )

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 0,
    ) -> "FolderReader":
        """See reader.Dataset."""
        check_split(self.info, split)
        size, _, _ = stored_shape(self.info, stored_size)
        count = limited(self.info.num_examples[split], limit, f"{NAME} {split}")
        return FolderReader(self._path, split, self.info.class_names, size, count)


@functools.cache
def _splits(path: str) -> dict[str, _Split]:
    """The folder's splits by name, files in the order of `_files`."""
    if not path:
        raise DataError("path", "empty; 'folder' needs the path of one")
    root = Path(path)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError("path", f"{path} {what}")
    if (root / "train").is_dir():
        folders = sorted(x.name for x in root.iterdir() if x.is_dir() and _seen(x.name))
        found = {name: _split(root, name) for name in folders}
    else:
        files = _files(root)
        found = {"train": _Split(files, (None,) * len(files))}
    found = {name: split for name, split in found.items() if split.files}
    if not found:
        raise DataError(
            "path", f"no image file in {path}; they end in {', '.join(ENDINGS)}"
        )
    return found


def _split(root: Path, name: str) -> _Split:
    files = tuple(f"{name}/{file}" for file in _files(root / name))
    # split/class/.../file. A file outside of the class folders: no classes.
    parts = [file.split("/") for file in files]
    if any(len(part) < 3 for part in parts):
        return _Split(files, (None,) * len(files))
    return _Split(files, tuple(part[1] for part in parts))


def _files(folder: Path) -> tuple[str, ...]:
    """All image files below a folder, as paths from there, in stored order.

    The order depends on the names alone and mixes classes and dates, so that the first
    n are a sample of all.
    """
    found, visited = [], set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link to a folder that has been here, or is above
            below.clear()
            continue
        visited.add(real)
        below[:] = filter(_seen, below)
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        found += [
            prefix + name
            for name in files
            if _seen(name) and name.lower().endswith(ENDINGS)
        ]
    return tuple(sorted(found, key=lambda name: (zlib.crc32(os.fsencode(name)), name)))


def _seen(name: str) -> bool:
    """Whether a name is not hidden, as .DS_Store and ._photo.jpg are."""
    return not name.startswith(".")


def _class_names(path: str) -> tuple[str, ...]:
    """The class folders of `train`, by name; without any, those of all splits."""
    splits = _splits(path)
    classes = {
        name: {label for label in split.classes if label is not None}
        for name, split in splits.items()
    }
    known = classes.get("train") or set().union(*classes.values())
    for name, there in classes.items():
        if there - known:
            raise DataError(
                "path",
                f"{path}/{name} has the class folder {min(there - known)!r}, which "
                f"{path}/train lacks",
            )
    return tuple(sorted(known))


class FolderReader:
    """The first `count` images of a split, in squares of `size`; see reader.Reader."""

    def __init__(
        self, path: str, split: str, class_names: tuple[str, ...], size: int, count: int
    ):
        found = _splits(path)[split]
        number = {name: i for i, name in enumerate(class_names)} | {None: -1}
        self._path, self._files = path, found.files[:count]
        self.num_examples, self.class_names = count, class_names
        self.image_shape = (size, size, 3)
        self.labels = np.array([number[x] for x in found.classes[:count]], np.int32)
        self._damage: DataError | None = None
        self._tf = tensorflow()

    def file_names(self) -> list[str]:
        """Without their folders, as published lists have them."""
        return [file.rpartition("/")[2] for file in self._files]

    def read(
        self,
        batch_size: int,
        *,
        keep: np.ndarray | None = None,
        shuffle: tuple[int, ...] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Batch]:
        """One pass; see reader.Reader."""
        tf = self._tf
        order = np.arange(self.num_examples) if keep is None else keep
        order = order if shuffle is None else permuted(order, shuffle)
        dataset = tf.data.Dataset.from_tensor_slices(order[start:stop].astype(np.int64))
        dataset = dataset.map(
            self._example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        dataset = dataset.batch(batch_size).prefetch(2)
        # Bound here: an iterator dropped at exit outlives TensorFlow's modules.
        failed = tf.errors.OpError
        try:
            yield from dataset.as_numpy_iterator()
        except failed as error:
            raise self._damage or error from error

    def _example(self, position: Any) -> Batch:
        tf = self._tf
        image = tf.numpy_function(self._image, [position], tf.uint8)
        return {
            "image": tf.ensure_shape(image, self.image_shape),
            "label": tf.gather(tf.constant(self.labels), position),
            "index": tf.cast(position, tf.int32),
        }

    def _image(self, position: np.ndarray) -> np.ndarray:
        file = os.path.join(self._path, self._files[position])
        try:
            return decode(file, self.image_shape[0])
        # Pillow's decoders raise errors of many types for damaged bytes.
        except Exception as error:
            # TensorFlow reports only that reading failed, so the reason is kept here.
            reason = one_line(str(error).replace(file, "it"))
            self._damage = DataError(
                "path", f"cannot read {file}: {reason}; repair it or take it away"
            )
            raise


def decode(file: str, size: int) -> np.ndarray:
    """The central square of an image, resized (bilinear with antialiasing).

    Upright by its EXIF orientation; grey, palette, 16-bit and CMYK images become RGB,
    transparency is dropped, of an animation the first frame is taken.

    Args:
      file: its path.
      size: side in pixels.

    Returns:
      uint8 [size, size, 3].
    """
    from PIL import Image, ImageOps  # slow: an error message must not wait for it

    with warnings.catch_warnings():
        # Pillow warns of large images and odd EXIF, which are read all the same.
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            # A JPEG decodes at an eighth to a half of its size if that is enough.
            image.draft("RGB", (2 * size, 2 * size))
            upright = ImageOps.exif_transpose(image)
            side = min(upright.size)
            left, top = ((length - side) / 2 for length in upright.size)
            square = _rgb(upright).resize(
                (size, size),
                Image.Resampling.BILINEAR,
                box=(left, top, left + side, top + side),
            )
    return np.asarray(square)


def _rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower 8
        pixels = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
