"""Stages `finetune` and `supervised`: the whole network trained on labels.

Fine-tuning starts from the pretrained encoder and from the same encoder at its
random initialisation, on the same labels, in the same order, with the same draws of
augmentation. `supervised` is the second of these on all labels. BatchNorm normalises
by the batch while training and by its running statistics in evaluation.
"""

from typing import Any

import numpy as np
import optax

from simclr_jax import augment, data
from simclr_jax.experiment.experiment import Experiment, view
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages import classify
from simclr_jax.training.loop import LossFn


def make_loss(
    network: ClassifierNetwork, augmentation: augment.View, size: int
) -> LossFn:
    """Cross-entropy of one augmented view per image."""

    def loss_fn(params, model_state, key, batch):
        images = augment.augment(key, batch["image"], view=augmentation, size=size)
        logits, model_state = network.logits(params, model_state, images, train=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        return loss.mean(), (model_state, {"accuracy": accuracy})

    return loss_fn


def finetune(experiment: Experiment) -> dict[str, Any]:
    """On a part of the labels: pretrained against trained from scratch."""
    config = experiment.config.finetune
    step, params, model_state = experiment.pretrained
    source = experiment.images.labelled("finetune")
    network = ClassifierNetwork(
        Network(experiment.encoder, experiment.projector),
        config.from_layer,
        source.num_classes,
    )

    def score(variant, source_step, start, lr=None):
        meta = experiment.meta(source_step)
        return train_on_labels(
            experiment, "finetune", variant, network, start, source, meta, lr=lr
        )

    return {
        "pretrained": score("pretrained", step, (params, model_state)),
        "random_init": score(
            "random_init", 0, experiment.random_init, config.scratch_lr
        ),
        "label_fraction": experiment.images.label_fraction("finetune"),
        "step": step,
    }


def supervised(experiment: Experiment) -> dict[str, Any]:
    """The same encoder trained from scratch on all labels."""
    known = np.flatnonzero(experiment.images.train.labels >= 0)
    source = experiment.images.train.subset(known)
    network = ClassifierNetwork(
        Network(experiment.encoder, experiment.projector),
        0,
        experiment.images.train.num_classes,
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


def train_on_labels(
    experiment: Experiment,
    stage: str,
    variant: str,
    network: ClassifierNetwork,
    start: tuple[Any, Any],
    source: data.Source,
    meta: dict[str, Any],
    *,
    section: str = "",
    lr: float | None = None,
) -> dict[str, float]:
    """Cross-entropy on every image of `source`; see `classify.train`."""
    fields = experiment.config[section or stage]
    return classify.train(
        experiment,
        stage,
        variant,
        network,
        start,
        loss_fn=make_loss(network, view(fields.augment), fields.augment.size),
        batches=lambda done: source.batches(
            fields.batch_size, seed=experiment.order(stage), start=done
        ),
        num_examples=source.num_examples,
        meta=meta,
        section=section,
        lr=lr,
    )
