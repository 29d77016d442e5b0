"""Data: a name and a split in, batches out. The only folder that imports TensorFlow."""

from simclr_jax.data.datasets import describe, file_names, load, tensorflow
from simclr_jax.data.order import balanced_subset, shuffled
from simclr_jax.data.reader import Batch, Info
from simclr_jax.data.sources import Resident, Source, Stream, take

__all__ = [
    "Batch",
    "Info",
    "Resident",
    "Source",
    "Stream",
    "balanced_subset",
    "describe",
    "file_names",
    "load",
    "shuffled",
    "take",
    "tensorflow",
]
