"""Stage `probe`: trains a linear classifier on frozen features.

It computes the features of the labelled images once, in inference mode. Then
`linear.py` trains the classifiers of all levels together.
"""

from typing import Any

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.stages import knn
from simclr_jax.stages.fit import Training, fit, fit_quietly
from simclr_jax.stages.linear import Features, LinearProbe, loss_fn

_FEWEST, _MOST = 100, 500  # steps in one call


def probe(experiment: Experiment) -> dict[str, Any]:
    """Probes the pretrained network, the same at random initialisation and, with
    `config.probe.target`, the target network.

    The scores are those of level `config.probe.features`; `layers` has all levels.
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
    labelled = experiment.images.labelled("probe")
    linear = LinearProbe(
        experiment.features(params, model_state, labelled),
        experiment.features(params, model_state, experiment.images.test),
        experiment.images.train.num_classes,
    )
    made = training(experiment, linear, variant, experiment.meta(step))
    state, _ = fit(experiment, made)
    return linear.scores(state.params)


def training(
    experiment: Experiment, linear: LinearProbe, variant: str, meta: dict[str, Any]
) -> Training:
    """The training of the classifiers that the recipe describes."""
    return Training(
        "probe",
        variant,
        init=linear.init,
        loss_fn=loss_fn,
        batches=lambda start: linear.batches(
            experiment.config.probe.batch_size,
            seed=experiment.order("probe"),
            start=start,
        ),
        num_examples=linear.num_examples,
        meta=meta,
        steps_per_call=_steps_per_call(
            linear.num_examples // experiment.config.probe.batch_size
        ),
    )


def _steps_per_call(steps_per_epoch: int) -> int:
    """An epoch's steps; several epochs' if it has few, and not all if it has many.

    A step computes for microseconds, so that its call would cost most of the time. A
    signal waits for the end of a call.
    """
    epochs = max(1, _FEWEST // steps_per_epoch)
    return min(epochs * steps_per_epoch, _MOST)


def glance(experiment: Experiment, params: Any, model_state: Any) -> dict[str, float]:
    """kNN and probe on h during pretraining; writes nothing to disk."""
    images = experiment.images
    bank = experiment.features(params, model_state, images.train, ("h",))
    test = experiment.features(params, model_state, images.test, ("h",))
    chosen = images.labelled_indices("probe")
    features, labels = bank
    labelled: Features = {"h": features["h"][chosen]}, labels[chosen]
    linear = LinearProbe(labelled, test, images.train.num_classes)
    top = linear.scores(fit_quietly(experiment, training(experiment, linear, "", {})))
    return {
        "knn_top1": knn.accuracy(experiment, bank, test),
        "probe_top1": top["h"]["top1"],
        "probe_top3": top["h"]["top3"],
    }
