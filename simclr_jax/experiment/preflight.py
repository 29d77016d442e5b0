"""Checks a run against its data and checkpoints before anything is computed or written.

Reads sizes and file headers, no images, and writes nothing.
"""

from collections.abc import Mapping

from simclr_jax import checkpoint, data
from simclr_jax.config.stages import STAGES, having
from simclr_jax.config.validate import Config, flatten
from simclr_jax.data import label_file
from simclr_jax.errors import RequestError
from simclr_jax.experiment.images import pretraining_images
from simclr_jax.experiment.restore import check_network, no_checkpoint, no_teacher
from simclr_jax.experiment.workdir import (
    pretraining_folder,
    results,
    teacher_folder,
    teacher_workdir,
)


def check(config: Config, workdir) -> data.Info:
    """Raises RequestError, naming the field, unless data and checkpoints fit.

    Returns:
      What the data set says of itself.
    """
    fields = config.data
    info = data.describe(
        fields.name,
        path=fields.path,
        data_dir=fields.data_dir,
        download=fields.download,
    )
    pretrain_split = fields.pretrain_split or fields.train_split
    for name, split in (
        ("train_split", fields.train_split),
        ("test_split", fields.test_split),
        ("pretrain_split", pretrain_split),
    ):
        if split not in info.num_examples:
            there = ", ".join(info.num_examples)
            raise RequestError(
                f"config.data.{name}: no split {split!r}; there: {there}"
            )
    if None in info.image_shape and not fields.stored_size:
        raise RequestError(
            f"config.data.stored_size: the images of {fields.name} vary in size; set "
            "the side in pixels at which to store them"
        )
    if info.image_shape[-1] not in (1, 3):
        raise RequestError(
            f"config.data.name: the images of {fields.name} have "
            f"{info.image_shape[-1]} channels; 1 or 3 are supported"
        )
    if not info.num_classes:
        _refuse_labelled_stages(config)
    images = info.num_examples[pretrain_split]
    if fields.limit > images:
        raise RequestError(
            f"config.data.limit: {fields.limit} is more than the {images} images"
        )
    images = pretraining_images(config, info)
    same = pretrain_split == fields.train_split
    labels = images if same else info.num_examples[fields.train_split]
    counts = {"pretrain": images, "supervised": labels}
    for stage in ("probe", "finetune"):
        counts[stage] = _labelled_images(config, stage, labels, info)
    check_batches(config, counts)
    stages = [*config.stages, "pretrain"]
    first = stages[: stages.index("pretrain")]  # what runs before any pretraining
    if set(first) & having(needs="encoder"):
        directory = pretraining_folder(config, workdir)
        meta = checkpoint.read_meta(directory)
        if meta is None:
            raise RequestError(no_checkpoint(directory))
        check_network(meta, config, directory)
    for stage in config.stages:
        if STAGES[stage].needs == "teacher":
            _check_teacher(config, workdir, info, stage)
    return info


def _check_teacher(config: Config, workdir, info: data.Info, stage: str) -> None:
    fields = config.distill
    before = config.stages[: config.stages.index(stage)]
    if not fields.teacher and fields.teacher_stage in before:
        return
    folder = teacher_folder(config, workdir)
    meta = checkpoint.read_meta(folder)
    if meta is None:
        raise RequestError(no_teacher(config, folder))
    teacher = teacher_workdir(config, workdir)
    if fields.teacher_stage not in results(teacher, "config.distill.teacher"):
        raise RequestError(
            f"config.distill.teacher: stage {fields.teacher_stage} in {teacher} is not "
            "finished; run its own command again first"
        )
    if "num_classes" not in meta:
        raise RequestError(
            f"config.distill.teacher: the network in {folder} was made before there "
            "was distillation; train it again in another workdir"
        )
    if meta["num_classes"] != info.num_classes:
        raise RequestError(
            f"config.distill.teacher: the network in {folder} has "
            f"{meta['num_classes']} classes, {config.data.name} has {info.num_classes}"
        )


def _refuse_labelled_stages(config: Config) -> None:
    name = config.data.name
    labelled = [s for s in config.stages if s not in ("pretrain", "report")]
    if labelled:
        raise RequestError(
            f"config.stages: {labelled[0]} needs labels and {name} has none; take "
            "--config.stages=\"('pretrain','report')\""
        )
    if config.probe.every_epochs:
        raise RequestError(
            f"config.probe.every_epochs: kNN and probe need labels and {name} has "
            "none; set 0"
        )


def _labelled_images(config: Config, section: str, images: int, info: data.Info) -> int:
    """How many of the training images `Images.labelled` will give."""
    fields = config[section]
    path = fields.get("label_file")
    if path and set(config.stages) & having(labels="finetune"):
        return label_file.check(path, info, images)
    return _balanced(images, fields.label_fraction, info.num_classes)


def _balanced(images: int, fraction: float, classes: int) -> int:
    """Images of a class-balanced subset, if the data set has its classes in balance.

    Where it does not there may be fewer; `stages.run` counts them."""
    if fraction == 1 or not classes:
        return images
    return max(1, round(fraction * images / classes)) * classes


def check_batches(config: Config, counts: Mapping[str, int]) -> None:
    """Raises RequestError if a stage has fewer images than one of its batches.

    Args:
      counts: the images that "pretrain", "probe", "finetune" and "supervised" train on:
        at most so many before the labels have been read, `stages.run` has them exactly.
    """
    asked = set(config.stages)
    if config.probe.every_epochs and "pretrain" in asked:
        asked.add("probe")
    for stage, images in counts.items():
        field = "batch_size" if stage == "pretrain" else f"{stage}.batch_size"
        if stage in asked:
            _check_batch(config, field, images, f"images that {stage} trains on")
    if "distill" not in asked:
        return
    many, few = counts["pretrain"], counts["finetune"]
    alone = "labelled images that distill's baseline trains on"
    _check_batch(config, "distill.batch_size", many, "images that distill trains on")
    _check_batch(config, "finetune.batch_size", few, alone)
    if config.distill.label_weight:
        _check_batch(config, "distill.label_batch_size", few, "labelled images")


def _check_batch(config: Config, field: str, available: int, what: str) -> None:
    batch = dict(flatten(config))[field]
    if batch > available:
        raise RequestError(
            f"config.{field}: {batch} is larger than the {available} {what}; lower it"
        )
