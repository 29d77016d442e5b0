"""Stage `supervised`: the run's encoder trained from scratch on all labels.

It is fine-tuning's second network (`finetune.py`) on every labelled image.
"""

from typing import Any

import numpy as np

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.stages.classify import Network
from simclr_jax.stages.finetune import train_on_labels


def supervised(experiment: Experiment) -> dict[str, Any]:
    """Trains or continues the network; returns results.json's `supervised`."""
    known = np.flatnonzero(experiment.images.train.labels >= 0)
    source = experiment.images.train.subset(known)
    network = Network(
        experiment.encoder, experiment.projector, 0, experiment.images.train.num_classes
    )
    return train_on_labels(
        experiment,
        "supervised",
        "random_init",
        network,
        experiment.random_init,
        source,
        experiment.meta(0),
    ) | {"step": 0}
