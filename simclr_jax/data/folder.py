"""Reads your own image files from a folder: the data set "folder".

    PATH/**/*.jpg              one split, `train`, without labels
    PATH/CLASS/*.jpg           one split, `train`, with classes: two folders or more,
                               and no image beside them
    PATH/SPLIT/CLASS/*.jpg     split SPLIT with classes; one of them is `train`
    PATH/SPLIT/*.jpg           split SPLIT without labels, as `unlabelled`

In place of the folder, PATH may be a list of image files below its own folder, .txt or
.csv, and a table of labels may take the place of the class folders (see `listed`).

Pillow decodes what cameras and phones write, in several threads. Train, TEST and the
like are the splits' names in lower case. Where there is no folder test, val (or valid,
or validation) is `test` too.
"""

import math
import os
from collections.abc import Iterator

import numpy as np

from simclr_jax.data import damage, summary
from simclr_jax.data.fingerprint import fingerprint, of_files
from simclr_jax.data.image_files import decode
from simclr_jax.data.label_table import labelled
from simclr_jax.data.listed import rows as table
from simclr_jax.data.order import permuted
from simclr_jax.data.pool import in_order
from simclr_jax.data.reader import Batch, Info, limited, stored_shape
from simclr_jax.data.rows import completed, in_rows
from simclr_jax.data.scan import Split, class_names, scan
from simclr_jax.data.splits import examples, parts

NAME = "folder"
_BATCHES_AHEAD = 2  # decoded before they are asked for
_LAYOUT = (
    "put the images into PATH/train/CLASS/ and PATH/test/CLASS/ (or val in place of "
    "test), or cut a test split off: train[:90%] to train on, train[90%:] to test on"
)


class FolderDataset:
    """The folder at `path`. See reader.Dataset.

    It reads the headers of the files, and decodes all of them once if damaged files may
    be skipped.

    Args:
      name: "folder".
      path: the folder, or a list of image files (.txt, .csv; see `listed`).
      labels: a table of labels, which take the place of class folders; "": none.
      skip_damaged: how many damaged files, at most, are left out.

    Raises:
      DataError: no such folder, no image in it, a class that `train` lacks, or more
        damaged files than may be skipped.
    """

    def __init__(self, name: str, path: str, skip_damaged: int = 0, labels: str = ""):
        found = scan(path)
        if labels:
            found = labelled(found, labels, "labels")
        elif path.lower().endswith(".csv") and any(x for _, x in table(path, "path")):
            found = labelled(found, path, "path")
        checked = damage.check(path, thorough=skip_damaged > 0)
        damage.require_few(found.root, checked, skip_damaged)
        splits = {
            key: split.without(checked.damaged) if checked.damaged else split
            for key, split in found.splits.items()
        }
        splits = {key: split for key, split in splits.items() if split.files}
        names = class_names(path, splits)
        lines = tuple(summary.lines(path, splits, found, checked))
        aliases = {x: key for x, key in found.aliases.items() if key in splits}
        splits |= {alias: splits[key] for alias, key in aliases.items()}
        counts = {key: len(split.files) for key, split in splits.items()}
        prints = {
            key: fingerprint(counts[key], of_files(found.root, *split))
            for key, split in splits.items()
        }
        shape = None, None, 3
        self._path, self._splits, self._bits = found.root, splits, checked.bits
        self.info = Info(
            *(name, counts, len(names), names, shape),
            file_names=True,
            fingerprints=prints,
            found=lines,
            layout=_LAYOUT.replace("PATH", path),
            present={
                key: len(set(split.classes) - {None}) for key, split in splits.items()
            },
            bits=checked.bits,
            damaged=damage.placed(found.root, checked.damaged),
        )

    def reader(
        self,
        split: str,
        *,
        limit: int = 0,
        stored_size: int = 0,
        shuffle_buffer: int = 0,
    ) -> "FolderReader":
        """See reader.Dataset."""
        count = examples(self.info, split)
        size, _, _ = stored_shape(self.info, stored_size)
        count = limited(count, limit, f"{NAME} {split}")
        files: list[str] = []
        classes: list[str | None] = []
        for name, start, stop in parts(self.info, split):
            files += self._splits[name].files[start:stop]
            classes += self._splits[name].classes[start:stop]
        chosen = Split(tuple(files[:count]), tuple(classes[:count]))
        names = self.info.class_names
        return FolderReader(self._path, chosen, names, size, bits=self._bits)


class FolderReader:
    """The images of a split, as squares of `size`; see reader.Reader.

    `files` are their names below the folder.
    """

    def __init__(
        self,
        path: str,
        split: Split,
        class_names: tuple[str, ...],
        size: int,
        *,
        bits: int,  # of greyscale images with more than 8; see image_files.decode
    ):
        number = {name: i for i, name in enumerate(class_names)} | {None: -1}
        self._path, self.files, self._bits = path, split.files, bits
        self.num_examples, self.class_names = len(split.files), class_names
        self.image_shape = (size, size, 3)
        self.labels = np.array([number[x] for x in split.classes], np.int32)

    def file_names(self) -> list[str]:
        """Without their folders, as published lists have them."""
        return [file.rpartition("/")[2] for file in self.files]

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
        """One pass; see reader.Reader."""
        order = np.arange(self.num_examples) if keep is None else keep
        order = order if shuffle is None else permuted(order, shuffle)
        order = order[start:stop].astype(np.int32)
        count = math.ceil(len(order) / batch_size)
        rows = rows or slice(0, batch_size)
        mine = in_rows(order, batch_size, rows)
        batches = self._batches(mine, rows.stop - rows.start)
        return completed(batches, count, self.image_shape)

    def _batches(self, order: np.ndarray, size: int) -> Iterator[Batch]:
        """The images at these positions; the last batch may be smaller."""
        images = in_order(self._image, order, ahead=_BATCHES_AHEAD * size)
        for first in range(0, len(order), size):
            index = order[first : first + size]
            image = np.empty((len(index), *self.image_shape), np.uint8)
            for row in image:
                row[:] = next(images)
            yield {"image": image, "label": self.labels[index], "index": index}

    def _image(self, position: int) -> np.ndarray:
        file = os.path.join(self._path, self.files[position])
        try:
            return decode(file, self.image_shape[0], bits=self._bits)
        # Pillow's decoders raise errors of many types for damaged bytes.
        except Exception as error:
            raise damage.unreadable(file, damage.reason(error, file)) from error
