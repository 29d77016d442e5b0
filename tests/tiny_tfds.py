"""Writes tiny TFDS data sets, and reads image numbers back out of batches.

A set called "cifar10" is read by the same path as the real one; "tiny" is a name that
TFDS knows from disk only. The pixels of image k are all k and its label is k % 10: what
a batch should hold is known by construction.
"""

from pathlib import Path

import jax
import numpy as np

from simclr_jax import data

SHARDS = 3
SIZE = 32  # TFDS knows it of "cifar10"
TRAIN, TEST = 40, 13  # images of the set that tests of all forms share
FORMATS = ("tfrecord", "array_record")


def write_tfds(
    folder: Path,
    kind: str,
    images,
    splits,
    *,
    name="tiny",
    labels=None,
    version="3.0.2",
    file_names=None,
):
    """Writes a TFDS data set; splits say which images, by number, they hold.

    file_names: number -> what the feature `file_name` says; without it there is none.
    """
    data.tensorflow()  # before tfds imports it
    import tensorflow_datasets as tfds

    size = images[0].shape[0] if len({i.shape for i in images}) == 1 else None
    features = {
        "image": tfds.features.Image(shape=(size, size, images[0].shape[-1])),
        "label": tfds.features.ClassLabel(num_classes=10),
        "id": tfds.features.Text(),  # as in CIFAR-10; not used
    }
    labels = labels or (lambda split, k: k % 10)

    def example(split: str, k: int):
        made = {"image": images[k], "label": labels(split, k), "id": str(k)}
        return made | ({"file_name": file_names(k)} if file_names else {})

    if file_names:
        features["file_name"] = tfds.features.Text()
    tfds.dataset_builders.AdhocBuilder(
        name=name,
        version=version,
        features=tfds.features.FeaturesDict(features),
        data_dir=folder,
        file_format=kind,
        split_datasets={
            split: [(k, example(split, k)) for k in ks] for split, ks in splits.items()
        },
    ).download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=SHARDS)
    )
    return folder


def constant(count: int, size: int = SIZE) -> list[np.ndarray]:
    return [np.full((size, size, 3), k, np.uint8) for k in range(count)]


@jax.jit
def taken(batch):
    return data.take(batch)


def numbers(batch) -> np.ndarray:
    """The image numbers in a batch, from its pixels; checks labels and shapes."""
    rows = {name: np.asarray(array) for name, array in taken(batch).items()}
    image = rows["image"]
    assert image.dtype == np.uint8
    assert image.shape[1:] == (SIZE, SIZE, 3)
    assert rows["label"].dtype == rows["index"].dtype == np.int32
    number = image[:, 0, 0, 0].astype(int)
    assert (image == number[:, None, None, None]).all()
    np.testing.assert_array_equal(rows["label"], number % 10)
    return number
