"""Stage `pretrain`: trains encoder and projector without labels."""

import inspect
import math
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simclr_jax import augment
from simclr_jax.errors import RequestError
from simclr_jax.experiment import initial
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.heads import Classifier
from simclr_jax.stages import finetune, probe, unlabelled
from simclr_jax.stages.fit import Training, fit
from simclr_jax.stages.measurement import Measurement
from simclr_jax.training import LossFn, TrainState


def make_loss(
    method, views: tuple[augment.View, augment.View], size: int, num_classes: int
) -> LossFn:
    """The pretraining loss of a batch of uint8 images.

    With `num_classes`, a linear classifier on h, params["online_probe"], is trained at
    the same time. No gradient flows from it into h, so the labels do not affect the
    encoder. Images labelled -1 don't count.
    """

    def loss_fn(params, model_state, key, batch):
        key_views, key_method = jax.random.split(key)
        pair = augment.two_views(key_views, batch["image"], views=views, size=size)
        # Only if needed: a method may lack this argument (`check_method`).
        extra = {"features": True} if num_classes else {}
        loss, (model_state, metrics) = method.loss(
            params, model_state, key_method, pair, batch["index"], **extra
        )
        metrics = {"loss": loss} | metrics
        if num_classes:
            h = jax.lax.stop_gradient(metrics.pop("h"))
            online, accuracy = _online_probe(params["online_probe"], h, batch["label"])
            metrics |= {"online_loss": online, "online_accuracy": accuracy}
            loss = loss + online
        return loss, (model_state, metrics)

    return loss_fn


def _online_probe(params: Any, h: jax.Array, labels: jax.Array):
    classifier = Classifier(params["dense"]["bias"].shape[0])
    logits: Any = classifier.apply({"params": params}, h)
    known = labels >= 0
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.maximum(labels, 0)
    )
    count = jnp.maximum(known.sum(), 1)
    correct = (logits.argmax(-1) == labels) & known
    return jnp.where(known, loss, 0).sum() / count, correct.sum() / count


def collapse_watch(threshold: float) -> Callable[[dict[str, float]], str | None]:
    """Warns when `embedding_std` falls below `threshold`, and each time it does again.

    Embeddings that are all one point minimise the loss of a method without negatives
    (BYOL), but are useless as features.
    """
    below = False

    def watch(values: dict[str, float]) -> str | None:
        nonlocal below
        spread = values.get("embedding_std", math.inf)
        before, below = below, spread < threshold
        if not below or before:
            return None
        return (
            f"embedding_std {spread:.2g} is below config.warn_below_std {threshold:g}: "
            "the embeddings are collapsing to one point"
        )

    return watch


def _trains_probe(experiment: Experiment) -> bool:
    config, images = experiment.config, experiment.images
    return config.probe.online and images.unlabelled.num_classes > 0


def check_method(experiment: Experiment) -> None:
    """Raises RequestError if a method in a file lacks what the recipe needs."""
    name = experiment.config.method.name
    parameters = inspect.signature(experiment.method.loss).parameters
    if _trains_probe(experiment) and "features" not in parameters:
        raise RequestError(
            f"config.probe.online: the loss of {name} takes no `features`; set it False"
        )
    if experiment.config.probe.target:
        _, model_state = jax.eval_shape(experiment.init)
        if "target" not in model_state:
            raise RequestError(f"config.probe.target: {name} has no target network")


def pretrain(experiment: Experiment) -> dict[str, Any]:
    """Runs or continues pretraining; returns its entry in results.json."""
    state, seconds = fit(experiment, training(experiment))
    return _result(experiment, int(state.step), seconds)


def training(experiment: Experiment) -> Training:
    """The training that the recipe describes."""
    config, source = experiment.config, experiment.images.unlabelled
    method = experiment.method
    online = _trains_probe(experiment)
    num_classes = source.num_classes if online else 0
    size = config.augment.size

    start = experiment.start
    given = () if start is None else (start.params, start.batch_stats)

    def init(*given):
        params, model_state = experiment.init()
        if given:
            params, model_state = initial.begin((params, model_state), *given)
        if online:
            h = method.embed(params, model_state, experiment.blank(size))["h"]
            head = Classifier(num_classes).init(experiment.key("init"), h)
            params = params | {"online_probe": head["params"]}
        return params, model_state

    return Training(
        "pretrain",
        "",
        init=init,
        init_args=given,
        loss_fn=make_loss(method, experiment.views, size, num_classes),
        batches=lambda start: source.batches(
            config.batch_size, seed=experiment.order("pretrain"), start=start
        ),
        num_examples=source.num_examples,
        meta=experiment.meta(0),
        update=method.update,
        measurements=_measurements(experiment),
        watch=collapse_watch(config.warn_below_std),
    )


def _measurements(experiment: Experiment) -> tuple[Measurement, ...]:
    """What is evaluated every so many epochs of pretraining."""

    def of(
        glance: Callable[[Experiment, Any, Any], dict[str, float]],
    ) -> Callable[[TrainState], dict[str, float]]:
        return lambda state: glance(experiment, state.params, state.model_state)

    config, scores = experiment.config, unlabelled.scores(experiment)
    return (
        Measurement(
            unlabelled.every_epochs(config),
            unlabelled.NAMES,
            lambda state: scores(state.params, state.model_state),
        ),
        Measurement(config.probe.every_epochs, probe.GLANCE, of(probe.glance)),
        Measurement(
            config.finetune.every_epochs,
            finetune.GLANCE,
            of(finetune.glance),
            doing="fine-tuning",
            trains=True,
        ),
    )


def _result(experiment: Experiment, step: int, seconds: float) -> dict[str, Any]:
    num_examples = experiment.images.unlabelled.num_examples
    plan, _ = experiment.plan("pretrain", num_examples)
    lines = [
        line
        for line in experiment.workdir.metrics()
        if line["stage"] == "pretrain" and "loss" in line
    ]
    speeds = [x["images_per_second"] for x in lines if "images_per_second" in x]
    return {
        "loss": lines[-1]["loss"] if lines else None,
        "epochs": step / plan.steps_per_epoch,
        "seconds": round(seconds, 1),
        "images_per_second": statistics.median(speeds) if speeds else None,
        "step": step,
    }
