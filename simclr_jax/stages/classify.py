"""A network with a classifier on top: trained by a stage, scored on the test split.

Shared by fine-tuning, the supervised network and distillation. BatchNorm normalises by
the batch while training and by its running statistics in evaluation.
"""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from simclr_jax import data
from simclr_jax import evaluation as evaluate
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.heads import Classifier, Projector, keep_layers
from simclr_jax.stages.fit import fit
from simclr_jax.training.loop import LossFn


class Network:
    """Encoder, the projector's layers up to `from_layer`, and a classifier.

    Args:
      encoder, projector: the flax modules.
      from_layer: head layers kept below the classifier; 0 classifies h
        (SimCLRv2, section 2: fine-tuning from a middle layer of the head).
      num_classes: outputs.
    """

    def __init__(
        self, encoder: nn.Module, projector: Projector, from_layer: int, num_classes
    ):
        self._encoder, self._projector = encoder, projector
        self.from_layer, self.num_classes = from_layer, num_classes
        self._classifier = Classifier(num_classes)

    def start(self, params: Any, model_state: Any, key: jax.Array, images: jax.Array):
        """`(params, model_state)` from a method's: layers above are dropped, the
        classifier starts at zero."""
        layer = self.from_layer
        kept = {
            "encoder": params["encoder"],
            "projector": keep_layers(params["projector"], layer),
        }
        batch_stats = model_state["batch_stats"]
        stats = {
            "encoder": batch_stats["encoder"],
            "projector": keep_layers(batch_stats["projector"], layer),
        }
        features, _ = self._features(kept, stats, images, train=False)
        classifier = self._classifier.init(key, features)["params"]
        return kept | {"classifier": classifier}, {"batch_stats": stats}

    def logits(self, params, model_state, images, *, train: bool):
        """`(logits [B, C], new model_state)`."""
        features, stats = self._features(
            params, model_state["batch_stats"], images, train=train
        )
        logits: Any = self._classifier.apply({"params": params["classifier"]}, features)
        return logits, {"batch_stats": stats}

    def _features(self, params, stats, images, *, train: bool):
        def variables(part):
            # Orbax leaves out what is empty: no layer of the projector.
            return {
                "params": params.get(part, {}),
                "batch_stats": stats.get(part, {}),
            }

        h, encoder = self._encoder.apply(
            variables("encoder"), images, train=train, mutable=["batch_stats"]
        )
        features, projector = self._projector.apply(
            variables("projector"),
            h,
            train=train,
            upto=self.from_layer,
            mutable=["batch_stats"],
        )
        return features, {
            "encoder": encoder.get("batch_stats", {}),
            "projector": projector.get("batch_stats", {}),
        }


def train(
    experiment: Experiment,
    stage: str,
    variant: str,
    network: Network,
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
        init=lambda params, model_state: network.start(
            params, model_state, experiment.key("init"), experiment.blank(size)
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
    experiment: Experiment, network: Network, params: Any, model_state: Any, size: int
) -> dict[str, float]:
    """Top-k accuracies on the whole test split, in inference mode."""

    @jax.jit
    def predict(params, model_state, batch):
        images = experiment.test_view(data.take(batch)["image"], size)
        logits, _ = network.logits(params, model_state, images, train=False)
        return {"logits": logits}

    outputs = evaluate.extract(
        lambda batch: predict(params, model_state, batch),
        experiment.ordered(experiment.images.test),
    )
    labels = experiment.images.test.labels
    known = labels >= 0
    return evaluate.accuracies(outputs["logits"][known], labels[known])
