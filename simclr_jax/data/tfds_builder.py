"""Finds a TFDS data set on disk and says what it holds, without TensorFlow."""

import difflib
import os
from typing import Any

import numpy as np

from simclr_jax.data import arrays, folder
from simclr_jax.data._tensorflow import tensorflow
from simclr_jax.data.fingerprint import fingerprint
from simclr_jax.data.reader import Info
from simclr_jax.data.tfds import TfdsReader
from simclr_jax.errors import DataError, install, one_line


class TfdsDataset:
    """A prepared data set of TFDS; see reader.Dataset.

    Args:
      name: TFDS's name for it, as "cifar10" or "cifar10:3.0.2".
      data_dir: TFDS's folder, "" for its default.
      download: fetch and prepare what is missing.

    Raises:
      DataError: TFDS has no such data set, files of it are missing on this disk, or
        it has no 8-bit images.
    """

    def __init__(self, name: str, data_dir: str, *, download: bool):
        self._builder = _builder(name, data_dir)
        if download and not self._builder.info.splits:
            _prepare(self._builder, name)
        _require_complete(self._builder, name)
        self.info = info(self._builder, name)

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 50_000,
    ) -> TfdsReader:
        """See reader.Dataset."""
        return TfdsReader(
            self._builder,
            self.info,
            split,
            limit=limit,
            stored_size=stored_size,
            shuffle_buffer=shuffle_buffer,
        )


def _prepare(builder: Any, name: str) -> None:
    """Has TFDS download and prepare a data set."""
    tensorflow()
    try:
        builder.download_and_prepare()
    # A data set's own script may raise anything: no network, no space, a bad checksum.
    except Exception as error:
        raise DataError(
            "download", f"preparing {name} failed: {one_line(error)}"
        ) from error


def _builder(name: str, data_dir: str) -> Any:
    """The TFDS builder of a data set, prepared or not."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            "name",
            f"{name!r} needs tensorflow-datasets, which can't be imported "
            f"({one_line(error)}); {install('train')}",
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.DatasetNotFoundError as error:
        ours = (*arrays.NAMES, folder.NAME)
        names = [*ours, *tfds.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name, names, n=3)
        raise DataError(
            "name",
            f"{name!r} is neither {' nor '.join(ours)} nor a TFDS data set; "
            f"{'did you mean ' + ' or '.join(near) if near else 'is it misspelt'}?",
        ) from error
    # For a wrong version or config TFDS raises AssertionError, ValueError and others.
    except Exception as error:
        reason = str(error).partition("\n")[0].rpartition('}": ')[2]
        raise DataError("name", f"{name!r}: {one_line(reason)}") from error


def _require_complete(builder: Any, name: str) -> None:
    """Raises DataError unless all files of the data set are on this disk."""
    cure = (
        "run once with `download=True` on a machine with network, or point `data_dir` "
        "at the TFDS folder of an existing copy"
    )
    if not builder.info.splits:
        raise DataError("data_dir", f"no {name} in {builder.data_path}; {cure}")
    present = {file.name for file in builder.data_path.iterdir()}
    for split in builder.info.splits.values():
        for file in split.filenames:
            if os.path.basename(file) not in present:
                raise DataError(
                    "data_dir",
                    f"{name} lacks the file {file} in {builder.data_path}; copy it "
                    f"again, or delete that folder and {cure}",
                )


def info(builder: Any, name: str) -> Info:
    """What a prepared data set holds: counts, classes, image shape.

    Raises:
      DataError: it has no 8-bit images, or its labels are not classes.
    """
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    shape = getattr(image, "shape", None) or ()
    dtype = getattr(image, "np_dtype", None)
    if len(shape) != 3 or shape[-1] is None or dtype != np.uint8:
        raise DataError(
            "name",
            f"{name} has no feature `image` of 8-bit images; it has "
            f"{', '.join(features)}",
        )
    if label is not None and not hasattr(label, "names"):
        raise DataError("name", f"the feature `label` of {name} is not a class label")
    names = tuple(label.names) if label is not None else ()
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    named = getattr(features.get("file_name"), "np_dtype", None) == np.object_
    version = str(builder.info.version)
    prints = {
        split: fingerprint(
            info.num_examples, [version, info.num_bytes, list(info.shard_lengths)]
        )
        for split, info in builder.info.splits.items()
    }
    return Info(
        *(name, counts, len(names), names, tuple(shape)),
        file_names=named,
        fingerprints=prints,
    )
