"""What a checkpoint says of its network, so that nobody needs the recipe to use it."""

from typing import Any

import simclr_jax
from simclr_jax import data
from simclr_jax.config.fields import Config
from simclr_jax.data.reader import stored_shape


def describe(config: Config, info: data.Info) -> dict[str, Any]:
    """The run's network and the images that it takes; JSON can hold it.

    Returns:
      `encoder`, `projector`: the fields of `ResNet` and `Projector`.
      `precision`: the encoder's dtype.
      `channels`: of the images; 3 are RGB, 1 is grey.
      `size`: the side in pixels of the images that the network sees.
      `preprocessing`: `view` "center" means pixels / 255, then `augment.center` of
        `size`; `stored` is the [H, W] of the images before that; `bits` hold the values
        of greyscale files with more than 8 bits, 0 if there were none.
      `data`, `class_names`: the data set and its classes, in the order of the labels.
      `method`: the pretraining method.
      `simclr_jax`: the version that wrote it.
    """
    height, width, channels = stored_shape(info, config.data.stored_size)
    return {
        "encoder": dict(config.encoder),
        "projector": dict(config.projector),
        "precision": config.precision,
        "channels": channels,
        "size": config.augment.size,
        "preprocessing": {
            "view": "center",
            "stored": [height, width],
            "bits": info.bits,
        },
        "data": config.data.name,
        "class_names": list(info.class_names),
        "method": config.method.name,
        "simclr_jax": simclr_jax.__version__,
    }
