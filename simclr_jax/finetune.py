"""Stages `finetune` and `supervised`: the whole network trained on labels.

Fine-tuning starts from the pretrained encoder and from the same encoder at its
random initialisation, on the same labels, in the same order, with the same draws of
augmentation. `supervised` is the second of these on all labels. BatchNorm normalises
by the batch while training and by its running statistics in evaluation.
"""

from typing import Any

import jax
import numpy as np
import optax

from simclr_jax import augment, data, evaluate
from simclr_jax.experiment import Experiment, view
from simclr_jax.fit import fit
from simclr_jax.heads import Classifier, keep_layers
from simclr_jax.train import LossFn


class Network:
    """Encoder, the projector's layers up to `from_layer`, and a classifier.

    Args:
      encoder, projector: the flax modules.
      from_layer: head layers kept below the classifier; 0 classifies h
        (SimCLRv2, section 2: fine-tuning from a middle layer of the head).
      num_classes: outputs.
    """

    def __init__(self, encoder, projector, from_layer: int, num_classes: int):
        self._encoder, self._projector = encoder, projector
        self._from_layer = from_layer
        self._classifier = Classifier(num_classes)

    def start(self, params: Any, model_state: Any, key: jax.Array, images: jax.Array):
        """`(params, model_state)` from a method's: layers above are dropped, the
        classifier starts at zero."""
        layer = self._from_layer
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
            return {"params": params[part], "batch_stats": stats[part]}

        h, encoder = self._encoder.apply(
            variables("encoder"), images, train=train, mutable=["batch_stats"]
        )
        features, projector = self._projector.apply(
            variables("projector"),
            h,
            train=train,
            upto=self._from_layer,
            mutable=["batch_stats"],
        )
        return features, {
            "encoder": encoder.get("batch_stats", {}),
            "projector": projector.get("batch_stats", {}),
        }


def make_loss(network: Network, augmentation: augment.View, size: int) -> LossFn:
    """Cross-entropy of one augmented view per image."""

    def loss_fn(params, model_state, key, batch):
        images = augment.augment(key, batch["image"], view=augmentation, size=size)
        logits, model_state = network.logits(params, model_state, images, train=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        return loss.mean(), (model_state, {"accuracy": accuracy})

    return loss_fn


def finetune(experiment: Experiment) -> dict[str, Any]:
    """On a fraction of the labels: pretrained against trained from scratch."""
    config = experiment.config.finetune
    step, params, model_state = experiment.pretrained
    source = experiment.labelled(config.label_fraction)

    def score(variant, source_step, params, model_state, lr=None):
        return _train(
            experiment,
            "finetune",
            variant,
            source,
            source_step,
            (params, model_state),
            config.from_layer,
            lr,
        )

    return {
        "pretrained": score("pretrained", step, params, model_state),
        "random_init": score(
            "random_init", 0, *experiment.random_init, config.scratch_lr
        ),
        "label_fraction": config.label_fraction,
        "step": step,
    }


def supervised(experiment: Experiment) -> dict[str, Any]:
    """The same encoder trained from scratch on all labels."""
    known = np.flatnonzero(experiment.train.labels >= 0)
    return _train(
        experiment,
        "supervised",
        "random_init",
        experiment.train.subset(known),
        0,
        experiment.random_init,
        0,
    ) | {"step": 0}


def _train(
    experiment: Experiment,
    stage: str,
    variant: str,
    source: data.Source,
    source_step: int,
    start: tuple[Any, Any],
    from_layer: int,
    lr: float | None = None,
) -> dict[str, float]:
    experiment.forget_if_stale(stage, variant, source_step)
    plan, total = experiment.plan(stage, source.num_examples)
    tx, schedule = experiment.optimizer(stage, plan, total, lr)
    network = Network(
        experiment.encoder, experiment.projector, from_layer, source.num_classes
    )
    fields = experiment.config[stage].augment
    size = fields.size
    state, _ = fit(
        experiment.workdir,
        stage,
        variant,
        init=lambda params, model_state: network.start(
            params, model_state, experiment.key("init"), experiment.blank(size)
        ),
        init_args=start,
        loss_fn=make_loss(network, view(fields), size),
        tx=tx,
        schedule=schedule,
        key=experiment.key(stage),
        batches=lambda done: source.batches(
            plan.batch_size, seed=experiment.order(stage), start=done
        ),
        plan=plan,
        keep=experiment.config.checkpoint.keep,
        meta=experiment.meta(source_step)
        | {"from_layer": from_layer, "num_classes": source.num_classes},
    )

    @jax.jit
    def predict(params, model_state, batch):
        images = experiment.test_view(data.take(batch)["image"], size)
        logits, _ = network.logits(params, model_state, images, train=False)
        return {"logits": logits}

    outputs, _ = evaluate.extract(
        lambda batch: predict(state.params, state.model_state, batch),
        experiment.ordered(experiment.test),
    )
    labels = experiment.test.labels
    known = labels >= 0
    return evaluate.accuracies(outputs["logits"][known], labels[known])
