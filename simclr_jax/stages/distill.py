"""Stage `distill`: a fine-tuned teacher labels images for a student of any size.

SimCLRv2's third step (arXiv 2006.10029, section 2, equations 2 and 3). The student
learns the teacher's class probabilities on the pretraining images and, with
`distill.label_weight`, the labels that fine-tuning uses. Both see the same crop; the
teacher normalises by its running statistics and gets no gradient. Under LARS the trust
ratio covers the student's classifier too (`optimizers.make`: `adapt_classifiers`).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simclr_jax import augment, checkpoint, data, devices, losses, methods
from simclr_jax.errors import RequestError
from simclr_jax.experiment import build
from simclr_jax.experiment.build import view
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.restore import no_teacher
from simclr_jax.experiment.workdir import teacher_folder
from simclr_jax.heads import Projector
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages import classify, finetune
from simclr_jax.stages.classify import Start
from simclr_jax.stages.fit import Training
from simclr_jax.training import LossFn


class Teacher(NamedTuple):
    """A classifier restored from a checkpoint."""

    network: ClassifierNetwork
    variables: tuple[Any, Any]  # params, model_state
    step: int  # of its own training
    source_step: int  # of the pretraining it came from


def make_loss(
    student: ClassifierNetwork,
    teacher: ClassifierNetwork,
    augmentation: augment.View,
    size: int,
    *,
    temperature: float,
    label_weight: float,
    parts: int = 1,
) -> LossFn:
    """`(1 - w) distillation + w cross-entropy` with w = `label_weight` (equation 3).

    A batch has "unlabelled" images, the teacher's variables as "teacher" and, if w is
    above 0, "labelled" images. The student's BatchNorm normalises both kinds together.
    `parts` is the number of devices that hold equal blocks of both kinds. Metrics:
    `agreement`, the share of unlabelled images to which both networks give the
    same class, and `distillation`, the first term.
    """

    def loss_fn(params, model_state, key, batch):
        key_unlabelled, key_labelled = jax.random.split(key)
        images = data.take(batch["unlabelled"])["image"]
        images = augment.augment(key_unlabelled, images, view=augmentation, size=size)
        frozen, statistics = batch["teacher"]
        wanted, _ = teacher.logits(frozen, statistics, images, train=False)
        wanted = jax.lax.stop_gradient(wanted)
        count, labels = len(images), None
        if label_weight:
            labelled = data.take(batch["labelled"])
            labels = labelled["label"]
            more = augment.augment(
                key_labelled, labelled["image"], view=augmentation, size=size
            )
            images = _joined(images, more, parts)
        logits, model_state = student.logits(params, model_state, images, train=True)
        logits, of_labelled = _separated(logits, count, parts)
        loss = losses.distillation(logits, wanted, temperature=temperature).mean()
        agreement = (logits.argmax(-1) == wanted.argmax(-1)).mean()
        metrics = {"distillation": loss, "agreement": agreement}
        if labels is not None:
            supervised = optax.softmax_cross_entropy_with_integer_labels(
                of_labelled, labels
            ).mean()
            loss = (1 - label_weight) * loss + label_weight * supervised
        return loss, (model_state, metrics)

    return loss_fn


def _joined(a: jax.Array, b: jax.Array, parts: int) -> jax.Array:
    """The rows of a and b in `parts` blocks, each with its share of both.

    Rows that lie in `parts` blocks on as many devices then stay where they are.
    """
    if parts == 1:  # by itself, so that runs on one device keep their last bits
        return jnp.concatenate([a, b])
    blocks = [x.reshape(parts, -1, *x.shape[1:]) for x in (a, b)]
    joined = jnp.concatenate(blocks, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def _separated(x: jax.Array, count: int, parts: int) -> tuple[jax.Array, jax.Array]:
    """The inverse of `_joined`: the first `count` rows and the others."""
    if parts == 1:
        return x[:count], x[count:]
    blocks = x.reshape(parts, -1, *x.shape[1:])
    halves = jnp.split(blocks, [count // parts], axis=1)
    a, b = (half.reshape(-1, *half.shape[2:]) for half in halves)
    return a, b


def distill(experiment: Experiment) -> dict[str, Any]:
    """Teaches the student; compares it with its teacher and with training on labels."""
    config = experiment.config.distill
    teacher = _teacher(experiment)
    encoder = build.student_fields(experiment.config)
    classes = teacher.network.num_classes
    student_encoder = build.resnet(experiment.config, encoder)
    student = ClassifierNetwork(
        Network(student_encoder, Projector(layers=0)), 0, classes
    )
    size, source = config.augment.size, experiment.images.unlabelled
    # The student is an encoder with a classifier on h.
    projector = dict(experiment.config.projector) | {"layers": 0}
    meta = experiment.meta(teacher.source_step)
    meta |= {"encoder": encoder, "projector": projector}
    training = Training(
        "distill",
        "student",
        init_args=_random_init(experiment, encoder),
        loss_fn=make_loss(
            student,
            teacher.network,
            view(config.augment),
            size,
            temperature=config.temperature,
            label_weight=config.label_weight,
            parts=_parts(config),
        ),
        batches=_batches(experiment, teacher),
        num_examples=source.num_examples,
        meta=meta | {"teacher_step": teacher.step},
    )
    taught = classify.train(experiment, student, training)
    start = Start(
        _random_init(experiment, encoder),
        meta | {"source_step": 0},
        experiment.config.finetune.scratch_lr,
    )
    alone = finetune.train_on_labels(
        experiment,
        "distill",
        "random_init",
        student,
        start,
        experiment.images.labelled("finetune"),
        section="finetune",
    )
    scores = classify.score(experiment, teacher.network, *teacher.variables, size)
    return {
        "student": taught,
        "random_init": alone,
        "teacher": scores,
        "label_fraction": experiment.images.label_fraction("finetune"),
        "step": teacher.source_step,
        "teacher_step": teacher.step,
    }


def _parts(config: Any) -> int:
    sizes = config.batch_size, config.label_batch_size
    return devices.count() if all(map(devices.divides, sizes)) else 1


def _teacher(experiment: Experiment) -> Teacher:
    """The network of the newest checkpoint of `distill.teacher_stage`."""
    folder = teacher_folder(experiment.config, experiment.workdir.path)
    like = {"params": None, "model_state": None}
    own = not experiment.config.distill.teacher
    restored = checkpoint.restore(folder, like, rename=own)
    if restored is None:
        raise RequestError(no_teacher(experiment.config, folder))
    step, items, meta = restored
    teacher_encoder = build.resnet(experiment.config, meta["encoder"])
    network = ClassifierNetwork(
        Network(teacher_encoder, Projector(**meta["projector"])),
        meta["from_layer"],
        meta["num_classes"],
    )
    variables = items["params"], items["model_state"]
    config = experiment.config
    variables = build.placed(config, variables, config.distill.batch_size)
    return Teacher(network, variables, step, meta["source_step"])


def _random_init(experiment: Experiment, encoder: dict[str, Any]) -> tuple[Any, Any]:
    method = methods.make(
        "simclr",
        build.resnet(experiment.config, encoder),
        projector=Projector(layers=0),
    )
    size = experiment.config.distill.augment.size

    def init() -> tuple[Any, Any]:
        return method.init(experiment.key("init"), experiment.blank(size))

    return build.made(experiment.config, init)


def _batches(experiment: Experiment, teacher: Teacher) -> Callable[[int], Iterator]:
    """Batches of unlabelled and labelled images, with the teacher's weights."""
    config = experiment.config.distill

    def batches(done: int) -> Iterator[dict[str, Any]]:
        unlabelled = experiment.images.unlabelled.batches(
            config.batch_size, seed=experiment.order("distill"), start=done
        )
        if not config.label_weight:
            return ({"unlabelled": x, "teacher": teacher.variables} for x in unlabelled)
        few = experiment.images.labelled("finetune").batches(
            config.label_batch_size,
            seed=experiment.order("distill_labels"),
            start=done,
        )
        return (
            {"unlabelled": x, "labelled": y, "teacher": teacher.variables}
            for x, y in zip(unlabelled, few, strict=True)
        )

    return batches
