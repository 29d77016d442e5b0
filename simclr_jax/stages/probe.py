"""Stage `probe`: what frozen features are worth to a linear classifier.

The linear probe is a multinomial logistic regression on standardised features. The
features of the labelled images are computed once, in inference mode; the classifiers
of all levels (h, head_1, ..., z) then train together in one step, each on its own
level, so that one run compares them under one protocol.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simclr_jax import data
from simclr_jax import evaluation as evaluate
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.stages import knn
from simclr_jax.stages.fit import fit, train_quietly


def loss_fn(params, model_state, key, batch):
    """Sum over levels of the mean cross-entropy: no level's gradient sees another's."""
    del key
    losses = {
        level: optax.softmax_cross_entropy_with_integer_labels(
            _logits(params[level], batch[level]), batch["label"]
        ).mean()
        for level in params
    }
    metrics = {f"loss_{level}": loss for level, loss in losses.items()}
    return jnp.stack([*losses.values()]).sum(), (model_state, metrics)


def _logits(params: dict[str, jax.Array], features: jax.Array) -> jax.Array:
    return features @ params["kernel"] + params["bias"][None]


class _Fit:
    """Features ready to be probed: standardised by the labelled training images."""

    def __init__(self, experiment: Experiment, train: knn.Features, test: knn.Features):
        features, self.labels = train
        test_features, self.test_labels = test
        self.train, self.test = {}, {}
        for level in features:
            scaled = evaluate.standardize(features[level], test_features[level])
            self.train[level], self.test[level] = scaled
        self.num_classes = experiment.images.train.num_classes
        self.plan, total = experiment.plan("probe", len(self.labels))
        self.tx, self.schedule = experiment.optimizer("probe", self.plan, total)
        self.order = experiment.order("probe")

    def init(self):
        """Zero classifiers: a convex problem needs no random start."""
        params = {
            level: {
                "kernel": jnp.zeros([x.shape[1], self.num_classes]),
                "bias": jnp.zeros([self.num_classes]),
            }
            for level, x in self.train.items()
        }
        return params, {}

    def batches(self, start: int):
        dataset = {k: jnp.asarray(v) for k, v in self.train.items()}
        dataset["label"] = jnp.asarray(self.labels)
        indices = data.shuffled(
            len(self.labels), self.plan.batch_size, seed=self.order, start=start
        )
        return ({"index": index, "dataset": dataset} for index in indices)

    def scores(self, params: Any) -> dict[str, dict[str, float]]:
        known = self.test_labels >= 0
        logits = {k: _logits(params[k], jnp.asarray(x)) for k, x in self.test.items()}
        return {
            level: evaluate.accuracies(np.asarray(x)[known], self.test_labels[known])
            for level, x in logits.items()
        }


def probe(experiment: Experiment) -> dict[str, Any]:
    """Probes the pretrained network, the same at its random initialisation and, where
    the recipe asks for it, the target network.

    The scores are of `config.probe.features`; `layers` has those of all levels.
    """
    level = experiment.config.probe.features
    step, params, model_state = experiment.pretrained
    pretrained = _probe(experiment, "pretrained", step, params, model_state)
    random_init = _probe(experiment, "random_init", 0, *experiment.random_init)
    target = {}
    if experiment.config.probe.target:
        target["target"] = _probe(experiment, "target", *experiment.target)[level]
    return target | {
        "pretrained": pretrained[level],
        "random_init": random_init[level],
        "features": level,
        "layers": {level: score["top1"] for level, score in pretrained.items()},
        "label_fraction": experiment.images.label_fraction("probe"),
        "step": step,
    }


def _probe(experiment: Experiment, variant: str, step: int, params, model_state):
    meta = experiment.meta(step)
    experiment.forget_if_stale("probe", variant, meta)
    labelled = experiment.images.labelled("probe")
    fitted = _Fit(
        experiment,
        experiment.features(params, model_state, labelled),
        experiment.features(params, model_state, experiment.images.test),
    )
    state, _ = fit(
        experiment.workdir,
        "probe",
        variant,
        init=fitted.init,
        loss_fn=loss_fn,
        tx=fitted.tx,
        schedule=fitted.schedule,
        key=experiment.key("probe"),
        batches=fitted.batches,
        plan=fitted.plan,
        keep=experiment.config.checkpoint.keep,
        meta=meta,
    )
    return fitted.scores(state.params)


def glance(experiment: Experiment, params: Any, model_state: Any) -> dict[str, float]:
    """kNN and probe on h in the middle of pretraining; leaves nothing on disk."""
    bank = experiment.features(params, model_state, experiment.images.train, ("h",))
    test = experiment.features(params, model_state, experiment.images.test, ("h",))
    features, labels = bank
    chosen = experiment.images.labelled_indices("probe")
    fitted = _Fit(experiment, ({"h": features["h"][chosen]}, labels[chosen]), test)
    params = train_quietly(
        fitted.init,
        loss_fn,
        fitted.tx,
        experiment.key("probe"),
        fitted.batches,
        fitted.plan,
    )
    top = fitted.scores(params)["h"]
    return {
        "knn_top1": knn.accuracy(experiment, bank, test),
        "probe_top1": top["top1"],
        "probe_top3": top["top3"],
    }
