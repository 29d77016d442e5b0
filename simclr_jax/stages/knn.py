"""Stage `knn`: classifies frozen features by a vote of the nearest neighbours."""

from typing import Any

import numpy as np

from simclr_jax import devices, evaluation
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.features import Features


def knn(experiment: Experiment) -> dict[str, Any]:
    """Classifies the test images by their nearest labelled training images, in h."""
    bank, test = (
        experiment.own_features("pretrained", split, ("h",))
        for split in ("train", "test")
    )
    top1 = accuracy(experiment, bank, test)
    return {"top1": top1, "step": experiment.pretrained[0]}


def accuracy(experiment: Experiment, bank: Features, test: Features) -> float:
    """The share of labelled test images that the labelled bank classifies rightly."""
    (features, labels), (queries, expected) = bank, test
    classes = evaluation.knn(
        queries["h"],
        features["h"],
        labels,
        k=experiment.config.knn.k,
        temperature=experiment.config.knn.temperature,
        num_classes=experiment.images.train.num_classes,
        same=_same(experiment, len(expected), len(labels)),
    )
    right = devices.fetch(classes) == expected
    return float(right[expected >= 0].mean())


def _same(experiment: Experiment, queries: int, bank: int) -> np.ndarray | None:
    """Where the bank has the query itself, if both splits are one."""
    fields = experiment.config.data
    if fields.test_split != fields.train_split:
        return None
    # With `data.limit` the bank holds the first images of the split.
    position = np.arange(queries)
    return np.where(position < bank, position, -1)
