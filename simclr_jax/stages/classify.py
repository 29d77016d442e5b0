"""A network with a classifier on top: trained by a stage, scored on the test split.

Shared by fine-tuning, the supervised network and distillation. BatchNorm normalises by
the batch while training and by its running statistics in evaluation.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from simclr_jax import data
from simclr_jax.evaluation import features as evaluate
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.networks import ClassifierNetwork
from simclr_jax.stages.fit import fit
from simclr_jax.training.loop import LossFn


def train(
    experiment: Experiment,
    stage: str,
    variant: str,
    network: ClassifierNetwork,
    start: tuple[Any, Any],
    *,
    loss_fn: LossFn,
    batches: Callable[[int], Iterator],
    num_examples: int,
    meta: dict[str, Any],
    section: str = "",
    lr: float | None = None,
) -> dict[str, float]:
    """Trains one variant of a stage, or goes on with it; returns its accuracies.

    Args:
      start: a method's `(params, model_state)`, whose encoder and projector it keeps.
      batches: `step -> iterator` of what loss_fn takes, after that many steps.
      num_examples: images in an epoch.
      meta: what its checkpoints say of it; with "source_step", the pretraining step
        it comes from (and "teacher_step"): a variant that came from another is begun
        anew.
      section: of the recipe, with epochs, optimizer, augmentation; default the stage's.
      lr: replaces the section's learning rate.
    """
    section = section or stage
    experiment.forget_if_stale(stage, variant, meta)
    plan, total = experiment.plan(section, num_examples)
    tx, schedule = experiment.optimizer(section, plan, total, lr)
    size = experiment.config[section].augment.size
    state, _ = fit(
        experiment.workdir,
        stage,
        variant,
        init=lambda params, model_state: network.init(
            experiment.key("init"), params, model_state, experiment.blank(size)
        ),
        init_args=start,
        loss_fn=loss_fn,
        tx=tx,
        schedule=schedule,
        key=experiment.key(stage),
        batches=batches,
        plan=plan,
        keep=experiment.config.checkpoint.keep,
        meta=meta
        | {"from_layer": network.from_layer, "num_classes": network.num_classes},
    )
    return score(experiment, network, state.params, state.model_state, size)


def score(
    experiment: Experiment,
    network: ClassifierNetwork,
    params: Any,
    model_state: Any,
    size: int,
) -> dict[str, float]:
    """Top-k accuracies on the whole test split, in inference mode."""

    @jax.jit
    def predict(params, model_state, batch):
        images = experiment.test_view(data.take(batch)["image"], size)
        logits, _ = network.logits(params, model_state, images, train=False)
        return {"logits": logits}

    outputs, _ = evaluate.extract(
        lambda batch: predict(params, model_state, batch),
        experiment.ordered(experiment.images.test),
    )
    labels = experiment.images.test.labels
    known = labels >= 0
    return evaluate.accuracies(outputs["logits"][known], labels[known])
