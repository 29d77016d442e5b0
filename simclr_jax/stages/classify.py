"""Trains a network with a classifier on top and scores it on the test split.

Fine-tuning, the supervised network and distillation share this code. BatchNorm
normalises by the batch while training and by its running statistics in evaluation.
"""

from functools import partial
from typing import Any, NamedTuple

import jax

from simclr_jax import data, devices, evaluation
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.networks import ClassifierNetwork
from simclr_jax.stages.fit import Training, fit, fit_quietly


class Start(NamedTuple):
    """Where the training of a classifier starts.

    Attributes:
      variables: a method's `(params, model_state)`, from which the network takes
        encoder and projector.
      meta: stored with its checkpoints; see `Training`.
      lr: replaces the section's learning rate.
    """

    variables: tuple[Any, Any]
    meta: dict[str, Any]
    lr: float | None = None


def train(
    experiment: Experiment,
    network: ClassifierNetwork,
    training: Training,
    *,
    quietly: bool = False,
) -> dict[str, float]:
    """Trains or continues one variant of a stage; returns its accuracies.

    Args:
      training: its `init_args` are a method's `(params, model_state)`, from which the
        network starts.
      quietly: train from the start to the end, and write nothing to disk.
    """
    size = experiment.config[training.section or training.stage].augment.size

    def init(params, model_state):
        blank = experiment.blank(size)
        return network.init(experiment.key("init"), params, model_state, blank)

    shape = {"from_layer": network.from_layer, "num_classes": network.num_classes}
    meta = training.meta | shape | {"size": size}
    made = training._replace(init=init, meta=meta)
    if quietly:
        state = fit_quietly(experiment, made)
    else:
        state, _ = fit(experiment, made)
    return score(experiment, network, state.params, state.model_state, size)


def score(
    experiment: Experiment,
    network: ClassifierNetwork,
    params: Any,
    model_state: Any,
    size: int,
) -> dict[str, float]:
    """Top-k accuracies on the whole test split, in inference mode."""

    @partial(jax.jit, out_shardings=devices.whole())
    def predict(params, model_state, batch):
        images = experiment.test_view(data.take(batch)["image"], size)
        logits, _ = network.logits(params, model_state, images, train=False)
        return {"logits": logits}

    outputs = evaluation.extract(
        lambda batch: predict(params, model_state, devices.place(batch)),
        experiment.ordered(experiment.images.test),
    )
    return evaluation.accuracies(outputs["logits"], experiment.images.test.labels)
