"""One data set in every form that is streamed; see tiny_tfds.py for its images."""

import numpy as np
import pytest
from PIL import Image
from tiny_tfds import FORMATS, TEST, TRAIN, constant, write_tfds


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """{file format: data_dir} of a data set of TRAIN + TEST images."""
    splits = {"train": range(TRAIN), "test": range(TRAIN, TRAIN + TEST)}
    return {
        kind: write_tfds(
            tmp_path_factory.mktemp(kind),
            kind,
            constant(TRAIN + TEST),
            splits,
            name="cifar10",
        )
        for kind in FORMATS
    }


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    images, labels = np.stack(constant(TRAIN + TEST)), np.arange(TRAIN + TEST) % 10
    np.savez(
        path,
        train_images=images[:TRAIN],
        train_labels=labels[:TRAIN],
        test_images=images[TRAIN:],
        test_labels=labels[TRAIN:],
    )
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder SPLIT/LABEL/NUMBER.png."""
    path = tmp_path_factory.mktemp("photos")
    for k, image in enumerate(constant(TRAIN + TEST)):
        place = path / ("train" if k < TRAIN else "test") / str(k % 10)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{k}.png")
    return path
