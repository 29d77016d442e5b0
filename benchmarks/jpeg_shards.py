"""Makes up JPEGs of ImageNet's shape and writes them in TFDS form.

Nobody took these photographs: they are noise whose amplitude falls with frequency, as
in photographs. Their size is ImageNet's, about 500 x 375 pixels and 110 kB.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from simclr_jax import data

NAME, CLASSES = "photographs", 1000
# Mostly 4:3, some upright, some 3:2 or square.
SHAPES = ((375, 500), (375, 500), (333, 500), (500, 375), (375, 500), (500, 500))


def jpeg(rng: np.random.Generator, shape: tuple[int, int], quality: int = 87) -> bytes:
    """A made-up photograph of `shape` (height, width): strong light, weak colours."""
    light = _noise(rng, shape)
    red, blue = (light + 0.3 * _noise(rng, shape) for _ in range(2))
    pixels = 128 + 52 * np.stack([red, light, blue], axis=-1)
    file = io.BytesIO()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A field with amplitude 1 / frequency, mean 0 and deviation 1."""
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = rng.normal(size=(*frequency.shape, 2)) @ np.array([1, 1j])
    spectrum /= np.maximum(frequency, 1 / max(shape))
    field = np.fft.irfft2(spectrum, shape)
    return (field - field.mean()) / field.std()


def make(count: int) -> list[bytes]:
    """`count` JPEG files; the shapes take turns."""
    rng = np.random.default_rng(0)
    return [jpeg(rng, SHAPES[k % len(SHAPES)]) for k in range(count)]


def write(
    folder: Path,
    files: list[bytes],
    *,
    shards: int,
    kind: str,
    side: int | None = None,
) -> None:
    """Writes the split `train` of the TFDS data set NAME, as tfrecord or array_record.

    Args:
      folder: what `data_dir` names later.
      files: JPEGs; number k gets the label k % CLASSES.
      shards: files that hold them.
      kind: TFDS's file format.
      side: that of all images, if they are squares of one size.
    """
    data.tensorflow()  # before tfds imports it
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(side, side, 3), encoding_format="jpeg")
    label = tfds.features.ClassLabel(num_classes=CLASSES)
    examples = (
        (k, {"image": io.BytesIO(file), "label": k % CLASSES})
        for k, file in enumerate(files)
    )
    tfds.dataset_builders.AdhocBuilder(
        name=NAME,
        version="1.0.0",
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        data_dir=folder,
        file_format=kind,
        split_datasets={"train": examples},
    ).download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=shards)
    )
