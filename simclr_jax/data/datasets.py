"""Data: a name and a split in, batches out. The only file that imports TensorFlow.

`describe` looks at what is on disk without TensorFlow, in about a second; `load` gives
a Resident or a Stream (`simclr_jax.data.sources`). Names: "mnist5k" and "npz" (see
`simclr_jax.data.arrays`), "folder" (see `simclr_jax.data.folder`), and every image data
set of TFDS by its own name, such as "cifar10", "cifar10:3.0.2" or "stl10".
"""

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from simclr_jax.data import arrays as data_arrays
from simclr_jax.data import folder as data_folder
from simclr_jax.data import tfds as data_tfds
from simclr_jax.data import tfds_builder as data_builder
from simclr_jax.data.order import balanced_subset, shuffled
from simclr_jax.data.reader import Batch, Info, Reader, limited, stored_shape
from simclr_jax.data.sources import Resident, Source, Stream, make_source, take
from simclr_jax.errors import DataError, install, one_line

__all__ = [
    "Batch",
    "Info",
    "Resident",
    "Source",
    "Stream",
    "balanced_subset",
    "describe",
    "file_names",
    "load",
    "shuffled",
    "take",
    "tensorflow",
]


@functools.cache
def tensorflow() -> Any:
    """The tensorflow module: imported once, quietly, and blind to GPUs.

    Call it before anything else imports TensorFlow, which otherwise takes the memory
    of the GPU that jax is to use. Costs about 5 s and 650 MB.

    Raises:
      DataError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # oneDNN announces itself on stderr whatever the log level; decoding has no use
    # for it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError(
            "name",
            f"TensorFlow does not import ({one_line(error)}), and "
            f"this data set needs it; {install('train')}",
        ) from error
    tf.config.set_visible_devices([], "GPU")
    return tf


def describe(
    name: str, *, path: str = "", data_dir: str = "", download: bool = False
) -> Info:
    """Says what a data set holds: splits, counts, classes, image shape.

    Without a download this imports no TensorFlow and takes a second or two.

    Args:
      name: "mnist5k", "npz", "folder" or a TFDS name.
      path: the .npz file for "npz", the folder for "folder".
      data_dir: TFDS's folder; "" for its default, ~/tensorflow_datasets.
      download: let TFDS fetch and prepare a data set that is missing.

    Raises:
      DataError: missing, incomplete, or not a set of 8-bit images.
    """
    if name in data_arrays.NAMES:
        return data_arrays.describe(name, os.path.expanduser(path))
    if name == data_folder.NAME:
        return data_folder.describe(os.path.expanduser(path))
    return data_builder.info(_prepared(name, data_dir, download), name)


def load(
    name: str,
    split: str,
    *,
    path: str = "",
    data_dir: str = "",
    download: bool = False,
    limit: int = 0,
    stored_size: int = 0,
    streaming: bool = False,
    device_limit_gb: float = 4.0,
    indices: np.ndarray | None = None,
    shuffle_buffer: int = 50_000,
) -> Source:
    """Opens one split: a Resident if its images fit on the device, else a Stream.

    Args:
      name: as for `describe`, and so are path, data_dir and download.
      split: "train", "test" or any split that TFDS understands ("train[:10%]").
      limit: only the first n examples in stored order; 0 takes all.
      stored_size: side s in pixels. Images are resized once when decoded (short side
        to s, bilinear with antialiasing) and cropped to the central [s, s]. 0 keeps
        their own size, which must then be common to all. Resizing loads TensorFlow.
      streaming: stream even what would fit.
      device_limit_gb: most that decoded images may take on the device, in 1e9 bytes.
      indices: positions within the limited split to keep; others are not decoded.
      shuffle_buffer: for streamed tfrecord files, the encoded examples in host memory
        among which shuffling draws. A buffer as large as the split draws a uniform
        permutation; costs buffer x encoded size (CIFAR-10: 0.1 GB; ImageNet: 5.5 GB),
        filled anew at each epoch.

    Raises:
      DataError: what `describe` refuses, an unknown split, a limit beyond the split,
        damaged files, or images of varying size with stored_size 0.
    """
    reader: Reader
    if name in data_arrays.NAMES:
        path = os.path.expanduser(path)
        reader = _array_reader(name, split, path, limit, stored_size)
    elif name == data_folder.NAME:
        reader = _folder_reader(split, path, limit, stored_size)
    else:
        builder = _prepared(name, data_dir, download)
        reader = _tfds_reader(builder, name, split, limit, stored_size, shuffle_buffer)
    return make_source(
        reader, keep=indices, device_limit_gb=0.0 if streaming else device_limit_gb
    )


def file_names(
    name: str,
    split: str,
    *,
    path: str = "",
    data_dir: str = "",
    limit: int = 0,
    stored_size: int = 0,
) -> list[str]:
    """The file names of a folder's split, or its TFDS feature `file_name`.

    In stored order. With TFDS it takes a pass over the split's files, which decodes no
    image, as `labels` of a Stream does.

    Args:
      name, split, path, data_dir, limit, stored_size: as for `load`.

    Raises:
      DataError: what `load` refuses.
      ValueError: there are none; `describe` says so beforehand.
    """
    if name == data_folder.NAME:
        return _folder_reader(split, path, limit, stored_size).file_names()
    builder = None if name in data_arrays.NAMES else _prepared(name, data_dir, False)
    if builder is None or not data_builder.info(builder, name).file_names:
        raise ValueError(f"{name} has no file names")
    return _tfds_reader(builder, name, split, limit, stored_size, 0).file_names()


def _tfds_reader(
    builder: Any, name: str, split: str, limit: int, stored_size: int, buffer: int
) -> data_tfds.TfdsReader:
    """A split of a prepared TFDS data set; what is wrong is refused before TF loads."""
    info = data_builder.info(builder, name)
    image_shape = stored_shape(info, stored_size)
    return data_tfds.TfdsReader(
        tensorflow(),
        builder,
        info,
        split,
        image_shape=image_shape,
        limit=limit,
        shuffle_buffer=buffer,
    )


def _folder_reader(
    split: str, path: str, limit: int, stored_size: int
) -> data_folder.FolderReader:
    path = os.path.expanduser(path)
    size, _, _ = stored_shape(data_folder.describe(path), stored_size)
    return data_folder.FolderReader(tensorflow(), path, split, size=size, limit=limit)


def _array_reader(
    name: str, split: str, path: str, limit: int, stored_size: int
) -> data_arrays.ArrayReader:
    """A split of mnist5k or npz, cut to the limit and resized if asked for."""
    reader = data_arrays.read_arrays(name, split, path)
    count = limited(reader.num_examples, limit, f"{name} {split}")
    images, labels = reader.images[:count], reader.labels[:count]
    info = Info(name, {}, 0, (), reader.image_shape)
    if stored_shape(info, stored_size) != reader.image_shape:
        tf = tensorflow()
        # In pieces: resizing makes float32 of what it holds.
        images = np.concatenate(
            [
                data_tfds.resized(tf, images[i : i + 1024], stored_size).numpy()
                for i in range(0, count, 1024)
            ]
        )
    return dataclasses.replace(reader, images=images, labels=labels)


def _prepared(name: str, data_dir: str, download: bool) -> Any:
    return data_builder.prepared(
        name, data_dir, download=download, tensorflow=tensorflow
    )
