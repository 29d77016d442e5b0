"""Reads your own image files from a folder: the data set "folder".

    PATH/**/*.jpg              one split, `train`, without labels
    PATH/SPLIT/CLASS/*.jpg     split SPLIT with classes; one of them is `train`
    PATH/SPLIT/*.jpg           split SPLIT without labels, as `unlabelled`

Pillow decodes what cameras and phones write; tf.data runs it in parallel.
"""

import functools
import math
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
from simclr_jax.data.rows import completed, in_rows
from simclr_jax.errors import DataError, one_line

NAME = "folder"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


class _Split(NamedTuple):
    files: tuple[str, ...]  # below the folder, in stored order
    classes: tuple[str | None, ...]  # of each file


class FolderDataset:
    """The folder at `path`; opens no image. See reader.Dataset.

    Raises:
      DataError: no such folder, no image in it, or a class that `train` lacks.
    """

    def __init__(self, name: str, path: str):
        counts = {key: len(split.files) for key, split in _splits(path).items()}
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
        raise DataError("path", "empty; 'folder' needs the path of a folder")
    root = Path(path)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError("path", f"{path} {what}")
    if (root / "train").is_dir():
        folders = sorted(x.name for x in root.iterdir() if x.is_dir() and _seen(x.name))
        splits = {name: _split(root, name) for name in folders}
    else:
        files = _files(root)
        splits = {"train": _Split(files, (None,) * len(files))}
    splits = {name: split for name, split in splits.items() if split.files}
    if not splits:
        raise DataError(
            "path", f"no image file in {path}; image files end in {', '.join(ENDINGS)}"
        )
    return splits


def _split(root: Path, name: str) -> _Split:
    files = tuple(f"{name}/{file}" for file in _files(root / name))
    # split/class/.../file; one file outside the class folders means no classes.
    parts = [file.split("/") for file in files]
    if any(len(part) < 3 for part in parts):
        return _Split(files, (None,) * len(files))
    return _Split(files, tuple(part[1] for part in parts))


def _files(folder: Path) -> tuple[str, ...]:
    """All image files below a folder, as paths from there, in stored order.

    A hash of the name gives the order, so the first n files mix classes and dates.
    """
    images, visited = [], set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link to a folder seen before, or above
            below.clear()
            continue
        visited.add(real)
        below[:] = filter(_seen, below)
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        images += [
            prefix + name
            for name in files
            if _seen(name) and name.lower().endswith(ENDINGS)
        ]
    return tuple(sorted(images, key=lambda name: (zlib.crc32(os.fsencode(name)), name)))


def _seen(name: str) -> bool:
    """Whether a name is not hidden, unlike .DS_Store and ._photo.jpg."""
    return not name.startswith(".")


def _class_names(path: str) -> tuple[str, ...]:
    """The class folders of `train`, sorted; if it has none, those of all splits."""
    splits = _splits(path)
    classes = {
        name: {label for label in split.classes if label is not None}
        for name, split in splits.items()
    }
    known = classes.get("train") or set().union(*classes.values())
    for name, labels in classes.items():
        if labels - known:
            raise DataError(
                "path",
                f"{path}/{name} has the class folder {min(labels - known)!r}, which "
                f"{path}/train lacks",
            )
    return tuple(sorted(known))


class FolderReader:
    """The first `count` images of a split, as squares of `size`; see reader.Reader."""

    def __init__(
        self, path: str, split: str, class_names: tuple[str, ...], size: int, count: int
    ):
        files, classes = _splits(path)[split]
        number = {name: i for i, name in enumerate(class_names)} | {None: -1}
        self._path, self._files = path, files[:count]
        self.num_examples, self.class_names = count, class_names
        self.image_shape = (size, size, 3)
        self.labels = np.array([number[x] for x in classes[:count]], np.int32)
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
        rows: slice | None = None,
    ) -> Iterator[Batch]:
        """One pass; see reader.Reader."""
        tf = self._tf
        order = np.arange(self.num_examples) if keep is None else keep
        order = order if shuffle is None else permuted(order, shuffle)
        order = order[start:stop].astype(np.int64)
        rows = rows or slice(0, batch_size)
        dataset = tf.data.Dataset.from_tensor_slices(in_rows(order, batch_size, rows))
        dataset = dataset.map(
            self._example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        dataset = dataset.batch(rows.stop - rows.start).prefetch(2)
        # Looked up now: an iterator dropped at exit outlives TensorFlow's modules.
        failed = tf.errors.OpError
        count = math.ceil(len(order) / batch_size)
        try:
            yield from completed(dataset.as_numpy_iterator(), count, self.image_shape)
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
                "path", f"cannot read {file}: {reason}; repair it or remove it"
            )
            raise


def decode(file: str, size: int) -> np.ndarray:
    """The central square of an image, resized to `size` pixels a side.

    Resizing is bilinear with antialiasing. The EXIF orientation is applied. Grey,
    palette, 16-bit and CMYK images become RGB, transparency is dropped, and an
    animation gives its first frame.

    Returns:
      uint8 [size, size, 3].
    """
    from PIL import Image, ImageOps  # slow, and error messages must not wait for it

    with warnings.catch_warnings():
        # Pillow warns about large images and odd EXIF but reads them.
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            # Decodes a JPEG at an eighth to a half of its size if that is enough.
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

    if image.mode.startswith("I"):  # 16 bits; Pillow would keep the lower 8
        pixels = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
