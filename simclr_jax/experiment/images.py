"""The images of a run: for pretraining, for training on labels, and for the test."""

from functools import cached_property

import numpy as np

from simclr_jax import data
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import without_labels
from simclr_jax.data import given, label_file
from simclr_jax.data.splits import examples
from simclr_jax.errors import RequestError


def open_dataset(config: Config) -> data.Dataset:
    """The data set that a recipe names.

    Raises:
      DataError: see `data.open_dataset`.
    """
    fields = config.data
    return data.open_dataset(
        fields.name,
        path=fields.path,
        data_dir=fields.data_dir,
        download=fields.download,
        skip_damaged=fields.skip_damaged,
        labels=fields.labels,
    )


class Images:
    """The splits that a recipe names, each loaded on first use.

    Every property and method raises DataError if the data set can't be read.

    Args:
      config: the whole recipe.
      label_seed: draws the labelled images, which are the same for all stages.
    """

    def __init__(self, config: Config, label_seed: tuple[int, ...]):
        self._config, self._label_seed = config, label_seed

    @cached_property
    def train(self) -> data.Source:
        """The labelled training images."""
        return self._load(self._config.data.train_split, self._train_limit)

    @property
    def _one_split(self) -> bool:
        """Whether pretraining uses the training split."""
        fields = self._config.data
        return fields.pretrain_split in ("", fields.train_split)

    @property
    def _train_limit(self) -> int:
        # `data.limit` limits the images to pretrain on.
        return self._config.data.limit if self._one_split else 0

    @cached_property
    def unlabelled(self) -> data.Source:
        """The images to pretrain on."""
        fields = self._config.data
        if self._one_split:
            return self.train
        return self._load(fields.pretrain_split, fields.limit)

    @cached_property
    def test(self) -> data.Source:
        """All images of the test split."""
        fields = self._config.data
        if fields.test_split == fields.train_split and not self._train_limit:
            return self.train  # a folder with one split: load it once
        return self._load(fields.test_split, 0)

    def file_names(self, split: str) -> list[str] | None:
        """Of "train" or "test": the names of the files below the folder, in stored
        order.

        None: the data set has none, or (TFDS) would have to read all of its images.
        """
        fields = self._config.data
        if fields.name != "folder":
            return None
        name, limit = fields[f"{split}_split"], self._train_limit * (split == "train")
        return given.names(self._reader(name, limit), name, self._dataset.info)

    def require_labels(self) -> None:
        """Raises RequestError unless both splits have labels."""
        for split in ("train", "test"):
            if not (getattr(self, split).labels >= 0).any():
                name = self._config.data[f"{split}_split"]
                raise RequestError(
                    f"config.data.{split}_split: no image of {name!r} has a label; "
                    "name a labelled split, or do without: "
                    f"{without_labels(self._config)}"
                )

    def labelled(self, section: str) -> data.Source:
        """The training images whose labels may be used; see `labelled_indices`."""
        return self.train.subset(self.labelled_indices(section))

    def labelled_indices(self, section: str) -> np.ndarray:
        """Increasing positions in `train`: the images that the section's `label_file`
        names, or else a class-balanced `label_fraction`, drawn by the seed.

        Args:
          section: "probe" or "finetune"; distillation uses "finetune" too.

        Raises:
          DataError: see `label_file.positions`.
        """
        fields = self._config[section]
        if fields.get("label_file"):
            return self._listed
        return data.balanced_subset(
            self.train.labels,
            fields.label_fraction,
            seed=self._label_seed,
            num_classes=self.train.num_classes,
        )

    @cached_property
    def _listed(self) -> np.ndarray:
        fields = self._config.data
        stored = self._reader(fields.train_split, self._train_limit).file_names()
        path = self._config.finetune.label_file
        return label_file.positions(path, stored, self.train.labels)

    def label_fraction(self, section: str) -> float:
        """The share of the labels that `labelled_indices` uses, at most 1.

        It may differ from the field, for example where a class has few images.
        """
        used = len(self.labelled_indices(section))
        return used / max(1, np.count_nonzero(self.train.labels >= 0))

    def _load(self, split: str, limit: int) -> data.Source:
        fields = self._config.data
        return data.make_source(
            self._reader(split, limit),
            device_limit_gb=0.0 if fields.streaming else fields.device_limit_gb,
        )

    def _reader(self, split: str, limit: int) -> data.Reader:
        size = self._config.data.stored_size
        return self._dataset.reader(split, limit=limit, stored_size=size)

    @cached_property
    def _dataset(self) -> data.Dataset:
        return open_dataset(self._config)


def pretraining_images(config: Config, info: data.Info) -> int:
    """How many images the run pretrains on."""
    fields = config.data
    split = fields.pretrain_split or fields.train_split
    return fields.limit or examples(info, split)
