"""A network with a classifier on top: trained by a stage, scored on the test split.

Shared by fine-tuning, the supervised network and distillation. BatchNorm normalises by
the batch while training and by its running statistics in evaluation.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax

from simclr_jax import data, evaluation
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.heads import Classifier, Projector, keep_layers
from simclr_jax.stages.fit import Training, fit


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


class Start(NamedTuple):
    """What the training of a classifier starts from.

    Attributes:
      variables: a method's `(params, model_state)`, whose encoder and projector the
        network keeps.
      meta: what its checkpoints say of it; see `Training`.
      lr: replaces the section's learning rate.
    """

    variables: tuple[Any, Any]
    meta: dict[str, Any]
    lr: float | None = None


def train(
    experiment: Experiment, network: Network, training: Training
) -> dict[str, float]:
    """Trains one variant of a stage, or goes on with it; returns its accuracies.

    Args:
      training: with a method's `(params, model_state)` as `init_args`, from which the
        network takes its start.
    """
    size = experiment.config[training.section or training.stage].augment.size

    def init(params, model_state):
        blank = experiment.blank(size)
        return network.start(params, model_state, experiment.key("init"), blank)

    shape = {"from_layer": network.from_layer, "num_classes": network.num_classes}
    made = training._replace(init=init, meta=training.meta | shape)
    state, _ = fit(experiment, made)
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

    outputs, _ = evaluation.extract(
        lambda batch: predict(params, model_state, batch),
        experiment.ordered(experiment.images.test),
    )
    labels = experiment.images.test.labels
    known = labels >= 0
    return evaluation.accuracies(outputs["logits"][known], labels[known])
