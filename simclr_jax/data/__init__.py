"""Turns a data set's name and split into batches. Only this folder imports TensorFlow.

`load` opens a split as a Resident or a Stream; `describe` says what a data set holds.
"""

from simclr_jax.data._tensorflow import tensorflow
from simclr_jax.data.datasets import describe, file_names, load, open_dataset
from simclr_jax.data.order import balanced_subset, shuffled
from simclr_jax.data.reader import Batch, Dataset, Info, Reader
from simclr_jax.data.sources import Resident, Source, Stream, make_source, take

__all__ = [
    "Batch",
    "Dataset",
    "Info",
    "Reader",
    "Resident",
    "Source",
    "Stream",
    "balanced_subset",
    "describe",
    "file_names",
    "load",
    "make_source",
    "open_dataset",
    "shuffled",
    "take",
    "tensorflow",
]
