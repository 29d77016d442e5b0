"""Imports TensorFlow for the readers, at first use, and keeps it off the GPU."""

import functools
import os
from typing import Any

from simclr_jax.errors import DataError, install, one_line

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_OF_JAX = "1"  # what importing jax sets; XLA's own log shall go on at this level


@functools.cache
def tensorflow() -> Any:
    """The tensorflow module, imported once, with its log off and all GPUs hidden.

    Call this before anything else imports TensorFlow, which would otherwise take the
    GPU memory that jax needs. The import costs about 5 s and 650 MB.

    Raises:
      DataError: TensorFlow is not installed.
    """
    level = os.environ.get(_LEVEL)
    if level in (None, _OF_JAX):
        os.environ[_LEVEL] = "3"
    # oneDNN prints to stderr at every log level, and decoding does not need it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError(
            "name",
            "this data set needs TensorFlow, which can't be imported "
            f"({one_line(error)}); {install('train')}",
        ) from error
    finally:
        if level is not None:
            os.environ[_LEVEL] = level
    tf.config.set_visible_devices([], "GPU")
    return tf


def resized(images: Any, size: int) -> Any:
    """Resizes the short side to `size` (bilinear, antialiased) and crops the centre.

    Args:
      images: uint8 [H, W, C] or [N, H, W, C].
      size: pixels.

    Returns:
      uint8 [size, size, C] or [N, size, size, C], a TensorFlow tensor.
    """
    tf = tensorflow()
    sides = tf.cast(tf.shape(images)[-3:-1], tf.float32)
    scaled = tf.cast(tf.round(sides * size / tf.reduce_min(sides)), tf.int32)
    corner = (scaled - size) // 2
    one = len(images.shape) == 3
    # What tf.image.resize calls; but that also computes the pixels outside the square.
    square = tf.raw_ops.ScaleAndTranslate(
        images=images[None] if one else images,
        size=[size, size],
        scale=tf.cast(scaled, tf.float32) / sides,
        translation=-tf.cast(corner, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return tf.cast(tf.round(square[0] if one else square), tf.uint8)
