"""The made-up JPEGs have ImageNet's shape, and our own loader reads their shards."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import jpeg_shards
from simclr_jax import data


@pytest.fixture(scope="module")
def files():
    return jpeg_shards.make(len(jpeg_shards.SHAPES))


def test_they_are_as_large_as_imagenets(files):
    """Mean size 110 kB, about 500 x 375 pixels; each file is another picture."""
    sizes = [Image.open(io.BytesIO(file)).size for file in files]
    assert [size[::-1] for size in sizes] == list(jpeg_shards.SHAPES)
    assert 105e3 < np.mean([len(file) for file in files]) < 115e3
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_the_loader_reads_the_shards(tmp_path, files, kind):
    jpeg_shards.write(tmp_path, files, shards=2, kind=kind)
    assert len(list(tmp_path.rglob(f"*train.{kind}-*"))) == 2
    source = data.load(
        jpeg_shards.NAME,
        "train",
        data_dir=str(tmp_path),
        stored_size=40,
        streaming=True,
    )
    (batch,) = source.ordered(len(files))
    assert sorted(batch["label"]) == list(range(len(files)))
    for image, label in zip(batch["image"], batch["label"], strict=True):
        # Pillow's own decoder and filter: short side to 40, then the middle.
        whole = Image.open(io.BytesIO(files[label]))
        width, height = (round(40 * side / min(whole.size)) for side in whole.size)
        small = whole.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - 40) // 2, (height - 40) // 2
        expected = np.asarray(small.crop((left, top, left + 40, top + 40)))
        assert np.abs(image.astype(int) - expected).max() <= 2  # rounding
