"""Times how fast the host decodes JPEGs for the device: tf.data alone, no network.

    python benchmarks/host_throughput.py
    python benchmarks/host_throughput.py --size=224 --batch=256 --seconds=20

Writes a data set of synthetic JPEGs in TFDS form (1/f noise, like photographs; quality
90) and streams it as training does (shuffled epochs, config.data.streaming). Prints one
JSON line: images per second, images per second of processor time, and the share of the
processor's time that decoding takes.
"""

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

from simclr_jax import data

_IMAGES = 2048


def jpeg(rng: np.random.Generator, size: int) -> bytes:
    """Noise whose amplitude falls with frequency, scaled to 0..255."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(3, size, size)))
    spectrum /= np.maximum(frequency, 1 / size)
    pixels = np.fft.irfft2(spectrum, (size, size)).transpose(1, 2, 0)
    pixels = (pixels - pixels.min()) / np.ptp(pixels) * 255
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write(folder: str, size: int) -> list[bytes]:
    """Writes the data set "synthetic" into `folder`; returns its JPEG files."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    files = [jpeg(rng, size) for _ in range(_IMAGES)]
    image = tfds.features.Image(shape=(size, size, 3), encoding_format="jpeg")
    features = {"image": image, "label": tfds.features.ClassLabel(num_classes=10)}
    tfds.dataset_builders.AdhocBuilder(
        name="synthetic",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        data_dir=folder,
        split_datasets={
            "train": [
                (k, {"image": io.BytesIO(file), "label": k % 10})
                for k, file in enumerate(files)
            ]
        },
    ).download_and_prepare()
    return files


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rate(batches, seconds: float) -> dict[str, float]:
    """Images per second of wall clock and of processor time, after a first batch."""
    batches = iter(batches)
    next(batches)
    images, begin, busy = 0, time.perf_counter(), cpu()
    while time.perf_counter() - begin < seconds:
        images += len(next(batches)["image"])
    wall, busy = time.perf_counter() - begin, cpu() - busy
    return {"images_per_s": images / wall, "images_per_core_s": images / busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    tf = data.tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        files = write(folder, options.size)
        source = data.load("synthetic", "train", data_dir=folder, streaming=True)
        result = rate(source.batches(options.batch, seed=(0,)), options.seconds)
        decode = (
            tf.data.Dataset.from_tensor_slices(files)
            .repeat()
            .map(lambda text: {"image": tf.io.decode_jpeg(text, channels=3)})
            .batch(options.batch)
            .as_numpy_iterator()
        )
        alone = rate(decode, options.seconds / 2)
    result |= {
        "decode_alone_images_per_core_s": alone["images_per_core_s"],
        "decode_share": result["images_per_core_s"] / alone["images_per_core_s"],
        "size": options.size,
        "kilobytes": sum(map(len, files)) / len(files) / 1e3,
        "cores": os.cpu_count(),
        "tensorflow": tf.__version__,
    }
    print(json.dumps({k: _rounded(v) for k, v in result.items()}))


def _rounded(value):
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
