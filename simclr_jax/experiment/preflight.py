"""Checks a run against its data and checkpoints before anything is computed or written.

Reads sizes and file headers, and writes nothing. It decodes images only to find damaged
ones that `data.skip_damaged` lets it skip.
"""

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from simclr_jax import checkpoint, data, devices, processes
from simclr_jax.config.fields import Config, flatten
from simclr_jax.config.stages import STAGES, having, trained, without_labels
from simclr_jax.data import given, label_file
from simclr_jax.data.order import check_batch_size
from simclr_jax.data.reader import limited, stored_shape
from simclr_jax.data.splits import examples
from simclr_jax.errors import DataError, RequestError, install
from simclr_jax.experiment import fitting, initial
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.restore import check_network, no_checkpoint, no_teacher
from simclr_jax.experiment.workdir import (
    pretraining_folder,
    results,
    teacher_folder,
    teacher_workdir,
)
from simclr_jax.export import embeddings, formats

# Argument of `simclr_jax.data` -> its field, where that is not config.data.ARGUMENT.
_FIELDS = {
    "split": "data.*_split",
    "batch_size": "batch_size",
    "label_file": "finetune.label_file",
}
# Another argument in the message -> the flag or field that sets it.
_ADVICE = {
    "`download=True`": "--config.data.download=True",
    "`data_dir`": "--config.data.data_dir",
    "`limit`": "config.data.limit",
    "`skip_damaged`": "--config.data.skip_damaged",
    "`label_fraction`": "config.finetune.label_fraction",
}


@contextlib.contextmanager
def naming_fields(**fields: str) -> Iterator[None]:
    """Turns a DataError into a RequestError that names the field of the config.

    Use it in a `with` statement or as a decorator.

    Args:
      fields: argument of `simclr_jax.data` -> field, where it is not the usual one.

    Raises:
      RequestError: the block raised a DataError.
    """
    try:
        yield
    except DataError as error:
        usual = f"data.{error.argument}"
        field = (_FIELDS | fields).get(error.argument, usual)
        message = error.message
        for argument, setting in _ADVICE.items():
            message = message.replace(argument, setting)
        raise RequestError(f"config.{field}: {message}") from error


@naming_fields()
def check(config: Config, workdir, given: Collection[str] | None = None) -> data.Info:
    """Raises RequestError, naming the field, unless data and checkpoints fit.

    Args:
      given: the fields that someone asked for. Of the others, those that `fitting`
        knows are changed in `config` where the data need it. None: nothing is changed.

    Returns:
      The data set's `Info`; its `found` also says what was changed.
    """
    if config.data.download:  # by one process, in case they share a disk
        processes.agree(lambda: bool(open_dataset(config)))
    info = open_dataset(config).info
    changed = [] if given is None else fitting.fit_splits(config, info, given)
    counts = _check_data(config, info)
    if given is not None:
        changed += fitting.fit_batches(config, counts, given)
    check_batches(config, counts)
    stages = [*config.stages, "pretrain"]
    first = stages[: stages.index("pretrain")]  # those that run before any pretraining
    if initial.needed(config, Path(workdir).expanduser()):
        _check_start(config, info)
    if set(first) & having(needs="encoder") and not initial.serves(config):
        directory = pretraining_folder(config, workdir)
        meta = checkpoint.read_meta(directory)
        if meta is None:
            raise RequestError(no_checkpoint(directory))
        if set(first) & having(needs="encoder", loads=False):
            check_network(meta, config, directory)
    for stage in config.stages:
        if STAGES[stage].needs == "teacher":
            _check_teacher(config, workdir, info, stage)
    others = _check_outputs(config)
    _check_devices(config)
    return info._replace(
        found=(*info.found, *changed, *(others.found if others else ())),
        damaged={**info.damaged, **(others.damaged if others else {})},
    )


def _check_start(config: Config, info: data.Info) -> None:
    initial.read(config, info)
    if initial.serves(config) and config.probe.target and "probe" in config.stages:
        raise RequestError(
            "config.probe.target: weights of config.init_from have no target network; "
            "name the run in config.pretrained, or set it False"
        )


def _check_outputs(config: Config) -> given.Given | None:
    """Raises RequestError unless stages `embed` and `export` can do what is asked.

    Returns:
      The images of `config.embed.images`; None: there are none to embed.
    """
    others = None
    if "embed" in config.stages:
        if package := embeddings.missing(config.embed.format):
            raise RequestError(
                f"config.embed.format: {config.embed.format} needs the package "
                f"{package}; {install('export')}, or set it to npz"
            )
        if config.embed.images:
            with naming_fields(path="embed.images"):
                others = given.read(config.embed.images, config.data.skip_damaged)
    for form in config.export.formats if "export" in config.stages else ():
        package = formats.missing(form)
        if package == "safetensors":
            without = ",".join(stage for stage in config.stages if stage != "export")
            raise RequestError(
                "config.stages: export needs the package safetensors; "
                f"{install('demo')}, or leave it out: --config.stages={without}"
            )
        if package:
            raise RequestError(
                f"config.export.formats: {form} needs the package {package}; "
                f"{install('export')}, or leave {form} out"
            )
        own = "pretrain" in config.stages  # else the network is another recipe's
        if own and config.encoder.sk and not formats.FORMATS[form].sk:
            raise RequestError(
                f"config.export.formats: {form} can't hold a network with selective "
                "kernels (config.encoder.sk)"
            )
    return others


def _check_devices(config: Config) -> None:
    """Last of all checks, because to count the devices jax has to start."""
    if not config.devices or (config.devices == 1 and processes.count() == 1):
        return
    there = devices.available()
    if config.devices > there:
        raise RequestError(
            f"config.devices: {config.devices} is more than jax finds here ({there})"
        )
    if config.devices < there and processes.count() > 1:
        raise RequestError(
            f"config.devices: {config.devices}, but several processes use all of their "
            f"{there} devices; leave it 0"
        )


def check_shares(config: Config) -> None:
    """Raises RequestError unless the devices in use divide a pretraining batch.

    Otherwise each of them would have to compute the whole batch. With micro-batches
    each holds an equal part of every micro-batch.
    """
    sizes = {"batch_size": config.batch_size}
    if config.microbatch:
        sizes["microbatch"] = config.microbatch
    common = math.gcd(*sizes.values())
    most = max(n for n in range(1, devices.count() + 1) if common % n == 0)
    for field, size in sizes.items():
        if not devices.divides(size):
            raise RequestError(
                f"config.{field}: {size} is not a multiple of the {devices.count()} "
                f"devices; choose one, or set --config.devices={most}"
            )


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
            "finished; run that workdir's command again first"
        )
    if "num_classes" not in meta:
        raise RequestError(
            f"config.distill.teacher: the network in {folder} was saved before "
            "distillation existed; train it again in another workdir"
        )
    if meta["num_classes"] != info.num_classes:
        raise RequestError(
            f"config.distill.teacher: the network in {folder} has "
            f"{meta['num_classes']} classes, but {config.data.name} has "
            f"{info.num_classes}"
        )


def _reject_labelled_stages(config: Config) -> None:
    name = config.data.name
    none, cure = f"labels, and {name} has none", ""
    if name == "folder":
        none = f"labels, and the images in {config.data.path} have none"
        cure = "put them into folders CLASS/ or name a table in --config.data.labels; "
        cure += "without labels "
    labelled = [stage for stage in config.stages if STAGES[stage].labels]
    if labelled:
        raise RequestError(
            f"config.stages: {labelled[0]} needs {none}; {cure}use "
            f"{without_labels(config)}"
        )
    for section, who in (("probe", "kNN and probe need"), ("finetune", "it needs")):
        if config[section].every_epochs:
            raise RequestError(
                f"config.{section}.every_epochs: {who} {none}; {cure}set it to 0"
            )


def _check_data(config: Config, info: data.Info) -> dict[str, int]:
    """Raises RequestError unless the recipe's stages can run on this data set.

    Returns:
      How many images each of them trains on, at most; see `check_batches`.
    """
    fields = config.data
    pretrain_split = fields.pretrain_split or fields.train_split
    sizes = {}
    for name, split in (
        ("train_split", fields.train_split),
        ("test_split", fields.test_split),
        ("pretrain_split", pretrain_split),
    ):
        with naming_fields(split=f"data.{name}"):
            sizes[name] = examples(info, split)
    stored_shape(info, fields.stored_size)
    if not info.num_classes:
        _reject_labelled_stages(config)
    images = sizes["pretrain_split"]
    images = limited(images, fields.limit, f"{info.name} {pretrain_split}")
    same = pretrain_split == fields.train_split
    labels = images if same else sizes["train_split"]
    counts = {"pretrain": images, "supervised": labels}
    for stage in ("probe", "finetune"):
        counts[stage] = _labelled_images(config, stage, labels, info)
    return counts


def _labelled_images(config: Config, section: str, images: int, info: data.Info) -> int:
    """How many images `Images.labelled` will return."""
    fields = config[section]
    path = fields.get("label_file")
    if path and trained(config) & having(labels="finetune"):
        return label_file.check(path, info, images)
    return _balanced(images, fields.label_fraction, info.num_classes)


def _balanced(images: int, fraction: float, classes: int) -> int:
    """The largest that a class-balanced subset can be.

    It depends on how many of the classes have an image. `stages.run` counts them."""
    if fraction == 1 or not classes:
        return images
    present = np.arange(1, classes + 1)
    each = np.maximum(1, np.round(fraction * images / present))
    return min(images, int((each * present).max()))


def check_batches(config: Config, counts: Mapping[str, int]) -> None:
    """Raises RequestError if a stage has fewer images than one of its batches.

    Args:
      counts: the images that "pretrain", "probe", "finetune" and "supervised" train on.
        Before the labels are read they are upper bounds; `stages.run` has exact ones.
    """
    for field, images, what in fitting.batches(config, counts):
        _check_batch(config, field, images, what)


def check_batch(config: Config, stage: str, images: int) -> None:
    """Raises RequestError if the stage has fewer images than one of its batches."""
    _check_batch(config, *fitting.of_stage(stage, images))


def _check_batch(config: Config, field: str, count: int, what: str) -> None:
    with naming_fields(batch_size=field):
        check_batch_size(dict(flatten(config))[field], count, what)
