"""Stage `finetune`: trains the whole network on labels.

It trains two networks, one from the pretrained encoder and one from the same encoder at
random initialisation. Both see the same labels in the same order with the same
augmentation draws. BatchNorm normalises by the batch while training and by its running
statistics in evaluation.
"""

from typing import Any

import optax

from simclr_jax import augment, data
from simclr_jax.experiment.build import view
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages import classify
from simclr_jax.stages.classify import Start
from simclr_jax.stages.fit import Training
from simclr_jax.training import LossFn


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
    """Fine-tunes the pretrained network and, for comparison, trains it from scratch."""
    config, images = experiment.config.finetune, experiment.images
    step, params, model_state = experiment.pretrained
    source = images.labelled("finetune")
    network = ClassifierNetwork(
        Network(experiment.encoder, experiment.projector),
        config.from_layer,
        source.num_classes,
    )
    starts = {
        "pretrained": Start((params, model_state), experiment.meta(step)),
        "random_init": Start(
            experiment.random_init, experiment.meta(0), config.scratch_lr
        ),
    }
    scores = {
        variant: train_on_labels(
            experiment, "finetune", variant, network, start, source
        )
        for variant, start in starts.items()
    }
    fraction = images.label_fraction("finetune")
    return scores | {"label_fraction": fraction, "step": step}


def train_on_labels(
    experiment: Experiment,
    stage: str,
    variant: str,
    network: ClassifierNetwork,
    start: Start,
    source: data.Source,
    *,
    section: str = "",
) -> dict[str, float]:
    """Trains with cross-entropy on all images of `source`; returns the accuracies.

    Args:
      section: the recipe's section with epochs, optimizer and augmentation; "": the
        stage's own.
    """
    fields = experiment.config[section or stage]
    training = Training(
        stage,
        variant,
        init_args=start.variables,
        loss_fn=make_loss(network, view(fields.augment), fields.augment.size),
        batches=lambda done: source.batches(
            fields.batch_size, seed=experiment.order(stage), start=done
        ),
        num_examples=source.num_examples,
        meta=start.meta,
        section=section,
        lr=start.lr,
    )
    return classify.train(experiment, network, training)
