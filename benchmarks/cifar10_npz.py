"""Turns CIFAR-10's files of tensorflow-datasets into one .npz, without TensorFlow.

    python benchmarks/cifar10_npz.py FOLDER cifar10.npz
    python launch.py --config=configs/cifar10.py --workdir=runs/a \\
        --config.data.name=npz --config.data.path=cifar10.npz

FOLDER holds cifar10-train.tfrecord-* and cifar10-test.tfrecord-*. A record is framed by
its length and two checksums; it is a tf.train.Example, of which this reads as much of
protocol buffers as it needs (https://protobuf.dev/programming-guides/encoding).
"""

import argparse
import io
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

_LENGTH, _CHECKSUM = 8, 4  # bytes in front of a record; a checksum follows both


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file; its checksums are not checked."""
    data, position = path.read_bytes(), 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        begin = position + _LENGTH + _CHECKSUM
        yield data[begin : begin + length]
        position = begin + length + _CHECKSUM


def varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in sevens of bits, lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: (number, bytes or whole number)."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        value, position = varint(message, position)
        if tag & 7 == 2:  # a length; its bytes follow
            value, position = message[position : position + value], position + value
        yield tag >> 3, value


def example(record: bytes) -> dict[str, bytes | int]:
    """The features of a tf.train.Example: the first value of each, by name."""
    values = {}
    (features,) = (value for number, value in fields(record) if number == 1)
    for _, entry in fields(features):
        name, feature = (value for _, value in sorted(fields(entry)))
        ((kind, items),) = fields(feature)  # 1: a list of bytes, 3: of whole numbers
        (first,) = (value for number, value in fields(items) if number == 1)
        packed = kind == 3 and isinstance(first, bytes)
        values[name.decode()] = varint(first, 0)[0] if packed else first
    return values


def image(values: dict[str, bytes | int]) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(values["image"])).convert("RGB"))


def split(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images [N, H, W, 3], int32 labels [N]) in the files' order."""
    files = sorted(folder.glob(f"*-{name}.tfrecord-*"))
    if not files:
        raise SystemExit(f"no file *-{name}.tfrecord-* in {folder}")
    examples = [example(record) for path in files for record in records(path)]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(image, examples))
    return np.stack(images), np.array([x["label"] for x in examples], np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("npz", type=Path)
    options = parser.parse_args()
    arrays = {}
    for name in ("train", "test"):
        images, labels = split(options.folder, name)
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
        print(f"{name}: {images.shape}, labels {labels.min()} to {labels.max()}")
    np.savez(options.npz, **arrays)


if __name__ == "__main__":
    main()
