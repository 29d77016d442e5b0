"""Stage `probe`: trains a linear classifier on frozen features.

It computes the features of the labelled images once, in inference mode. Then
`linear.py` trains the classifiers of all levels together. With `config.probe.second`
a second probe is trained on the same features by other rules, for example by those of
published figures.

The random encoder is the network at step 0. Its BatchNorm statistics are 0 and 1 by
default, so that BatchNorm does nothing and a feature hardly varies (standard deviation
0.002 and less). With `config.probe.calibrate` they are those of training images. That
is off by default: the standardised baseline is stronger without it, and scores stay
comparable with those of earlier versions. Top-1 in % of a random encoder of a quarter
width, with 1,000 CIFAR-10 labels (seed 0, CPU; `configs/cifar10_cpu.py` with
`data.limit` 1,000, all test images, batches of 200 in both probes, and no decay in the
first):

                               statistics 0 and 1    of images
    ResNet-18, standardised                  31.3         20.5
    ResNet-50, standardised                  32.3         14.0
    ResNet-18, second probe                  11.6         20.1
    ResNet-50, second probe                  11.2         16.2

No probe chooses its L2 penalty on held-out images, as SimCLR's transfer protocol does
(appendix B.8.1). With few labels and many features the score is a lower bound.
"""

from typing import Any

import numpy as np

from simclr_jax import processes
from simclr_jax.experiment import saved
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.stages import knn
from simclr_jax.stages.fit import Training, fit, fit_quietly
from simclr_jax.stages.linear import LinearProbe, folded, loss_fn

_FEWEST, _MOST = 100, 500  # steps in one call
_SECOND = "probe.second"


def probe(experiment: Experiment) -> dict[str, Any]:
    """Probes the pretrained network, the same at random initialisation and, with
    `config.probe.target`, the target network.

    The scores are those of level `config.probe.features`; `layers` has all levels.
    `second` has the scores of the second probe, if it is asked for.
    """
    config = experiment.config.probe
    networks = ["pretrained", "random_init", *["target"] * config.target]
    sections = ["probe", *[_SECOND] * config.second.run]
    scores: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for network in networks:
        for section, found in _probe(experiment, network, sections).items():
            scores[section][network] = found[config.features]
            if network == "pretrained":
                layers = {level: score["top1"] for level, score in found.items()}
                scores[section]["layers"] = layers
    result = scores["probe"] | {
        "features": config.features,
        "label_fraction": experiment.images.label_fraction("probe"),
        "step": experiment.pretrained[0],
    }
    return result | ({"second": scores[_SECOND]} if config.second.run else {})


def _probe(experiment: Experiment, network: str, sections: list[str]) -> dict[str, Any]:
    """`{section: {level: accuracies}}` of one network, whose features it makes once."""
    images, step = experiment.images, experiment.pretrained[0]
    labelled = images.labelled("probe")
    # A part of the images is always embedded by itself, and never taken from what knn
    # has left: its last bits must not depend on what ran before in this process.
    train = (
        experiment.own_features(network, "train")
        if labelled.num_examples == images.train.num_examples
        else experiment.features(*experiment.own(network), labelled)
    )
    test = experiment.own_features(network, "test")
    meta = experiment.meta(0 if network == "random_init" else step)
    scores = {}
    for section in sections:
        scaled = _fields(experiment, section).standardize
        linear = LinearProbe(train, test, images.train.num_classes, standardize=scaled)
        variant = network if section == "probe" else f"{network}_second"
        state, _ = fit(experiment, training(experiment, linear, variant, meta, section))
        scores[section] = linear.scores(state.params)
        if section == "probe" and network != "random_init":
            level = experiment.config.probe.features
            classifier = folded(
                state.params[level], np.asarray(train[0][level]), standardize=scaled
            )
            _keep(experiment, network, meta | {"level": level}, classifier)
    return scores


@processes.first_only
def _keep(
    experiment: Experiment, variant: str, about: dict[str, Any], classifier: Any
) -> None:
    """Writes the classifier of features as they are, which `simclr_jax.load` reads."""
    saved.keep_probe(experiment.workdir.path, variant, about, classifier)


def _fields(experiment: Experiment, section: str) -> Any:
    fields = experiment.config.probe
    return fields.second if section == _SECOND else fields


def training(
    experiment: Experiment,
    linear: LinearProbe,
    variant: str,
    meta: dict[str, Any],
    section: str = "probe",
) -> Training:
    """The training of the classifiers that a section of the recipe describes."""
    batch_size = _fields(experiment, section).batch_size
    return Training(
        "probe",
        variant,
        init_args=linear.init(),
        loss_fn=loss_fn,
        batches=lambda start: linear.batches(
            batch_size, seed=experiment.order("probe"), start=start
        ),
        num_examples=linear.num_examples,
        meta=meta,
        section=section,
        steps_per_call=_steps_per_call(linear.num_examples // batch_size),
    )


# Two of the scores that `glance` returns; runs of any age have recorded both.
GLANCE = ("knn_top1", "probe_top1")


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
    bank, test = (
        experiment.features(params, model_state, source, ("h",), on_device=True)
        for source in (images.train, images.test)
    )
    chosen = images.labelled_indices("probe")
    features, labels = bank
    linear = LinearProbe(
        ({"h": features["h"][chosen]}, labels[chosen]),
        test,
        images.train.num_classes,
        standardize=experiment.config.probe.standardize,
    )
    state = fit_quietly(experiment, training(experiment, linear, "", {}))
    top = linear.scores(state.params)
    return {
        "knn_top1": knn.accuracy(experiment, bank, test),
        "probe_top1": top["h"]["top1"],
        "probe_top3": top["h"]["top3"],
    }
