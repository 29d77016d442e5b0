"""Opens data sets by name.

`open_dataset` finds a data set on disk in about a second, without TensorFlow. `load`
opens one split for reading batches. The names are "mnist5k" and "npz" (see `arrays`),
"folder" (see `folder`), and TFDS's name of any of its image data sets, such as
"cifar10", "cifar10:3.0.2" or "stl10" (see `tfds_builder`).
"""

import os

import numpy as np

from simclr_jax.data import arrays, folder
from simclr_jax.data.arrays import ArrayDataset
from simclr_jax.data.folder import FolderDataset
from simclr_jax.data.reader import Dataset, Info
from simclr_jax.data.sources import Source, make_source
from simclr_jax.data.tfds_builder import TfdsDataset
from simclr_jax.errors import DataError


def open_dataset(
    name: str,
    *,
    path: str = "",
    data_dir: str = "",
    download: bool = False,
    skip_damaged: int = 0,
    labels: str = "",
) -> Dataset:
    """Finds a data set on disk.

    Without a download this imports no TensorFlow and takes a second or two. For a
    folder it reads the headers of the files: some 10,000 a second on one core.

    Args:
      name: "mnist5k", "npz", "folder" or a TFDS name.
      path: the .npz file for "npz", the folder or a list of files for "folder"; ~ is
        the home folder.
      data_dir: TFDS's folder; "" for its default, ~/tensorflow_datasets.
      download: let TFDS fetch and prepare a data set that is missing.
      skip_damaged: how many damaged files of a folder, at most, are left out. If it is
        not 0, all files are decoded here to find them. It is for "folder" only.
      labels: a .csv with the columns file and label, which take the place of a folder's
        class folders; "": none. It is for "folder" only.

    Returns:
      A Dataset: `info` says what it holds, `reader(split)` reads a split.

    Raises:
      DataError: the data set is missing, incomplete, or not one of 8-bit images.
    """
    if labels and name != folder.NAME:
        raise DataError("labels", f"it is for image files; {name} has its own")
    if name in arrays.NAMES:
        return ArrayDataset(name, os.path.expanduser(path))
    if name == folder.NAME:
        path, labels = os.path.expanduser(path), os.path.expanduser(labels)
        return FolderDataset(name, path, skip_damaged, labels)
    return TfdsDataset(name, os.path.expanduser(data_dir), download=download)


def describe(
    name: str,
    *,
    path: str = "",
    data_dir: str = "",
    download: bool = False,
    skip_damaged: int = 0,
    labels: str = "",
) -> Info:
    """Says what a data set holds: splits, counts, classes, image shape.

    Args:
      name, path, data_dir, download, skip_damaged, labels: as for `open_dataset`.

    Raises:
      DataError: as `open_dataset` does.
    """
    return open_dataset(
        name,
        path=path,
        data_dir=data_dir,
        download=download,
        skip_damaged=skip_damaged,
        labels=labels,
    ).info


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
    skip_damaged: int = 0,
    labels: str = "",
) -> Source:
    """Opens one split: a Resident if its images fit on the device, else a Stream.

    Args:
      name, path, data_dir, download, skip_damaged, labels: as for `open_dataset`.
      split, limit, stored_size, shuffle_buffer: as for `Dataset.reader`.
      streaming: return a Stream even if the images would fit.
      device_limit_gb: device memory for the decoded images, at most, in 1e9 bytes.
      indices: positions to keep in the limited split; other images are not decoded.

    Raises:
      DataError: as `open_dataset` and `Dataset.reader` do, or a file is damaged.
    """
    dataset = open_dataset(
        name,
        path=path,
        data_dir=data_dir,
        download=download,
        skip_damaged=skip_damaged,
        labels=labels,
    )
    reader = dataset.reader(
        split, limit=limit, stored_size=stored_size, shuffle_buffer=shuffle_buffer
    )
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
    skip_damaged: int = 0,
    labels: str = "",
) -> list[str]:
    """The file names of a split: of a folder's images, or TFDS's feature `file_name`.

    Args:
      name, split, path, data_dir, limit, stored_size, skip_damaged, labels: as for
        `load`.

    Returns:
      N names, in stored order; see `Reader.file_names`.

    Raises:
      DataError: as `load` does.
      ValueError: the data set has none; `describe(...).file_names` tells beforehand.
    """
    dataset = open_dataset(
        name, path=path, data_dir=data_dir, skip_damaged=skip_damaged, labels=labels
    )
    return dataset.reader(split, limit=limit, stored_size=stored_size).file_names()
