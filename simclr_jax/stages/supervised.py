"""Stage `supervised`: trains the run's encoder from scratch on all labels.

The network is the one that `finetune.py` trains from scratch.
"""

from typing import Any

import numpy as np

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages.classify import Start
from simclr_jax.stages.finetune import train_on_labels


def supervised(experiment: Experiment) -> dict[str, Any]:
    """Trains or continues the network; returns its entry in results.json."""
    images = experiment.images
    source = images.train.subset(np.flatnonzero(images.train.labels >= 0))
    network = ClassifierNetwork(
        Network(experiment.encoder, experiment.projector), 0, images.train.num_classes
    )
    start = Start(experiment.random_init, experiment.meta(0))
    scores = train_on_labels(
        experiment, "supervised", "random_init", network, start, source
    )
    return scores | {"step": 0}
