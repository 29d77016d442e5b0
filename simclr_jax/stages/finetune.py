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
    scratch_lr = experiment.config.finetune.scratch_lr
    images = experiment.images
    step, params, model_state = experiment.pretrained
    source = images.labelled("finetune")
    network = _network(experiment, source)
    starts = {
        "pretrained": Start((params, model_state), experiment.meta(step)),
        "random_init": Start(experiment.random_init, experiment.meta(0), scratch_lr),
    }
    scores = {
        variant: train_on_labels(
            experiment, "finetune", variant, network, start, source
        )
        for variant, start in starts.items()
    }
    fraction = images.label_fraction("finetune")
    return scores | {"label_fraction": fraction, "step": step}


# One of the scores that `glance` returns.
GLANCE = ("finetune_top1",)


def glance(experiment: Experiment, params: Any, model_state: Any) -> dict[str, float]:
    """Fine-tunes the network of this moment of pretraining; writes nothing to disk.

    Labels, draws, data order and learning rates are the stage's own, so that after the
    last step of pretraining the accuracies equal the stage's.

    Args:
      params, model_state: of the method that is being trained; they are not changed.
    """
    source = experiment.images.labelled("finetune")
    scores = train_on_labels(
        experiment,
        "finetune",
        "pretrained",
        _network(experiment, source),
        Start((params, model_state), {}),
        source,
        quietly=True,
    )
    return {f"finetune_{name}": score for name, score in scores.items()}


def _network(experiment: Experiment, source: data.Source) -> ClassifierNetwork:
    return ClassifierNetwork(
        Network(experiment.encoder, experiment.projector),
        experiment.config.finetune.from_layer,
        source.num_classes,
    )


def train_on_labels(
    experiment: Experiment,
    stage: str,
    variant: str,
    network: ClassifierNetwork,
    start: Start,
    source: data.Source,
    *,
    section: str = "",
    quietly: bool = False,
) -> dict[str, float]:
    """Trains with cross-entropy on all images of `source`; returns the accuracies.

    Args:
      section: the recipe's section with epochs, optimizer and augmentation; "": the
        stage's own.
      quietly: see `classify.train`.
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
    return classify.train(experiment, network, training, quietly=quietly)
