"""Reads the records of a TFDS split through tf.data.

Records stay encoded until after shuffling, skipping and filtering, so that only the
images in use are decoded.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from simclr_jax.data._tensorflow import resized, tensorflow
from simclr_jax.data.order import permuted
from simclr_jax.data.reader import Batch, Info, limited, stored_shape
from simclr_jax.data.rows import completed, filtered, in_rows
from simclr_jax.data.splits import no_split
from simclr_jax.errors import DataError, one_line

_SHARDS_AT_ONCE = 16  # files mixed by a shuffled pass, as TFDS does
_FETCH = 64  # records per random-access read


class _Shard(NamedTuple):
    """A run of records in one file; `first` is its first record's stored position."""

    path: str
    skip: int
    take: int
    first: int


class TfdsReader:
    """One TFDS split, or its first `limit` examples; see reader.Reader.

    tfrecord files have no random access: a shuffled pass mixes the files in a random
    order and then shuffles within a buffer of `shuffle_buffer` encoded examples in host
    memory. array_record files are read in one random permutation, without a buffer.
    """

    def __init__(
        self,
        builder: Any,
        info: Info,
        split: str,
        *,
        limit: int,
        stored_size: int,
        shuffle_buffer: int,
    ):
        try:
            instructions = builder.info.splits[split].file_instructions
        except (KeyError, ValueError) as error:
            raise no_split(info, split) from error
        self.class_names = info.class_names
        self.image_shape = stored_shape(info, stored_size)
        self.num_examples = limited(
            sum(part.take for part in instructions), limit, f"{info.name} {split}"
        )
        file_format = builder.info.file_format.value
        if file_format not in ("tfrecord", "array_record"):
            raise DataError(
                "data_dir",
                f"{info.name} is stored as {file_format}; prepare it as tfrecord or "
                "array_record",
            )
        self._tf = tensorflow()  # slow; the errors above need not wait for it
        self._info = info
        self._where = f"{info.name} ({split}) in {builder.data_path}"
        self._feature = builder.info.features["image"]
        # TFDS stores -1 for STL-10's unlabelled split; others may store a placeholder.
        self._labelled = bool(info.num_classes) and not split.startswith("unlabel")
        self._shuffle_buffer = shuffle_buffer
        self._shards = _shards(instructions, self.num_examples)
        # Random access to the records; None for tfrecord files.
        self._records: Any = (
            builder.as_data_source(split).data_source
            if file_format == "array_record"
            else None
        )

    @property
    def labels(self) -> np.ndarray:
        return self._labels

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        """int32 [N] in stored order."""
        if not self._labelled:
            return np.full(self.num_examples, -1, np.int32)
        labels = self._column("label", self._tf.int64)
        return np.maximum(labels, -1).astype(np.int32)

    def file_names(self) -> list[str]:
        """The feature `file_name` of every example, in stored order."""
        if not self._info.file_names:
            raise ValueError(f"{self._info.name} has no file names")
        names = self._column("file_name", self._tf.string)
        return [name.decode(errors="replace") for name in names]

    def _column(self, name: str, dtype: Any) -> np.ndarray:
        """One feature of all examples; reads the files without decoding images."""
        tf = self._tf
        spec = {name: tf.io.FixedLenFeature([], dtype)}
        dataset = self._encoded(None, None, 0, self.num_examples).batch(1024)
        dataset = dataset.map(lambda _, text: tf.io.parse_example(text, spec)[name])
        return np.concatenate(list(self._checked(dataset, self.num_examples)))

    def read(
        self,
        batch_size: int,
        *,
        keep: np.ndarray | None = None,
        shuffle: tuple[int, ...] | None = None,
        start: int = 0,
        stop: int | None = None,
        rows: slice | None = None,
    ) -> Iterator[Batch]:
        """One pass; see reader.Reader. It decodes the rows, but reads all records of
        tfrecord files: an example has its row only once all are shuffled."""
        tf = self._tf
        if stop is None:
            stop = self.num_examples if keep is None else len(keep)
        rows = rows or slice(0, batch_size)
        encoded = self._encoded(keep, shuffle, start, stop, batch_size, rows)
        decoded = encoded.map(
            self._decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        batches = decoded.batch(rows.stop - rows.start).prefetch(2)
        expected = len(in_rows(np.arange(start, stop), batch_size, rows))
        count = math.ceil((stop - start) / batch_size)
        return completed(self._checked(batches, expected), count, self.image_shape)

    def _encoded(
        self,
        keep: np.ndarray | None,
        shuffle: tuple[int, ...] | None,
        start: int,
        stop: int,
        batch_size: int = 1,
        rows: slice = slice(0, 1),
    ) -> Any:
        """tf.data of (position int64, serialized example), not yet decoded."""
        if self._records is not None:
            order = np.arange(self.num_examples) if keep is None else keep
            order = order if shuffle is None else permuted(order, shuffle)
            return self._by_position(in_rows(order[start:stop], batch_size, rows))
        dataset = self._from_files(keep, shuffle).skip(start).take(stop - start)
        return filtered(dataset, batch_size, rows)

    def _from_files(
        self, keep: np.ndarray | None, shuffle: tuple[int, ...] | None
    ) -> Any:
        """All tfrecord examples to keep, shuffled or in stored order."""
        tf, shards = self._tf, self._shards
        rng = np.random.default_rng(shuffle) if shuffle is not None else None
        if rng is not None:
            shards = [shards[i] for i in rng.permutation(len(shards))]
        columns = tuple(np.array(column) for column in zip(*shards, strict=True))
        dataset = tf.data.Dataset.from_tensor_slices(columns).interleave(
            lambda path, skip, take, first: (
                tf.data.TFRecordDataset(path, buffer_size=1 << 20)
                .skip(skip)
                .take(take)
                .enumerate(first)
            ),
            cycle_length=1 if rng is None else _SHARDS_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if keep is not None:
            member = np.zeros(self.num_examples, bool)
            member[keep] = True
            table = tf.constant(member)
            dataset = dataset.filter(lambda position, _: tf.gather(table, position))
        if rng is not None:
            dataset = dataset.shuffle(
                min(self._shuffle_buffer, self.num_examples),
                seed=int(rng.integers(2**31)),
                reshuffle_each_iteration=False,
            )
        return dataset

    def _by_position(self, order: np.ndarray) -> Any:
        """The array_record examples at these positions."""
        tf, records = self._tf, self._records

        def fetch(positions: np.ndarray) -> np.ndarray:
            return np.array(records.__getitems__(positions.tolist()), object)

        dataset = tf.data.Dataset.from_tensor_slices(order.astype(np.int64))
        return (
            dataset.batch(_FETCH)
            .map(
                lambda chunk: (chunk, tf.numpy_function(fetch, [chunk], tf.string)),
                num_parallel_calls=2,
                deterministic=True,
            )
            .unbatch()
        )

    def _decode(self, position: Any, text: Any) -> Batch:
        """One serialized example as image, label and index.

        TFDS stores a top-level feature under its own name, whatever the file format.
        """
        tf = self._tf
        spec = {"image": tf.io.FixedLenFeature([], tf.string)}
        if self._labelled:
            spec["label"] = tf.io.FixedLenFeature([], tf.int64)
        example = tf.io.parse_single_example(text, spec)
        image = self._feature.decode_example(example["image"])
        if self.image_shape != self._info.image_shape:
            image = resized(image, self.image_shape[0])
        label = tf.cast(example["label"] if self._labelled else -1, tf.int32)
        return {
            "image": tf.ensure_shape(image, self.image_shape),
            "label": tf.maximum(label, -1),
            "index": tf.cast(position, tf.int32),
        }

    def _checked(self, dataset: Any, expected: int) -> Iterator[Any]:
        """Numpy batches; raises DataError for damaged, missing or short files."""
        seen = 0
        # The tuner of the parallel calls gains nothing here, and the end of a pass
        # waits up to two seconds for its thread. Without it they use every core.
        options = self._tf.data.Options()
        options.autotune.enabled = False
        dataset = dataset.with_options(options)
        # Looked up now: an iterator dropped at exit outlives TensorFlow's modules.
        damage = self._tf.errors.OpError
        try:
            for batch in dataset.as_numpy_iterator():
                seen += len(batch["index"] if isinstance(batch, dict) else batch)
                yield batch
        except damage as error:
            raise DataError(
                "data_dir",
                f"cannot read {self._where}: "
                f"{one_line(error.message.rpartition('}} ')[2])}",
            ) from error
        if seen != expected:
            raise DataError(
                "data_dir",
                f"{self._where} holds {seen} of the {expected} "
                "examples that its dataset_info.json lists; copy it again",
            )


def _shards(instructions: Any, count: int) -> list[_Shard]:
    """Where a split's files hold its first `count` examples."""
    shards, first = [], 0
    for part in instructions:
        take = min(part.take, count - first)
        if take > 0:
            shards.append(_Shard(str(part.filename), part.skip, take, first))
            first += take
    return shards
