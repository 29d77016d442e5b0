"""CIFAR-10's files without TensorFlow, compared with records that TensorFlow wrote."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import cifar10_npz


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_it_reads_what_tensorflow_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    labels = [0, 9, 1, 127, 300]  # one and two bytes
    path = str(tmp_path / "cifar10-train.tfrecord-00000-of-00001")
    with tf.io.TFRecordWriter(path) as writer:
        for image, label in zip(images, labels, strict=True):
            features = {
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[png(image)])
                ),
                "id": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[b"train_%d" % label])
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    found, numbers = cifar10_npz.split(tmp_path, "train")
    np.testing.assert_array_equal(found, images)
    assert numbers.tolist() == labels


def test_a_folder_without_the_split_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="no file"):
        cifar10_npz.split(tmp_path, "test")
