"""Checks a recipe before anything is computed or written.

`rules.RULES` has the rule of each field; what depends on two fields at once is here. A
message names the field, its value and what is accepted.
"""

import json
import math
from typing import Any

from ml_collections import ConfigDict

from simclr_jax import heads, methods
from simclr_jax.config import defaults, sizes
from simclr_jax.config.fields import (
    Config,
    check_paths,
    every_field,
    flatten,
    method_options,
    to_json,
)
from simclr_jax.config.rules import FLOAT32_LIMITS, RULES
from simclr_jax.errors import RequestError
from simclr_jax.training import optimizers

# What two runs on one workdir may change: how long, how often, on how many devices and
# how the state lies on them, where the same data are, what is shown. A change of any
# other field makes it another experiment.
_FREE = (
    "max_steps",
    "stages",
    "log_every",
    "scores_every_epochs",
    "devices",
    "fsdp",
    "eval_batch_size",
    "warn_below_std",
    "checkpoint.",
    "tensorboard",
    "loggers",
    "published.",
    "embed.",
    "export.",
    "data.data_dir",
    "data.download",
    "data.path",
    "data.labels",
    "data.skip_damaged",
)


def validate(config: Config) -> None:
    """Raises RequestError, naming the field, unless `config` can be run."""
    check_paths(config)
    fields = every_field()
    for path, value in flatten(config):
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise RequestError(f"config.{path}: {number} is not a finite number")
            if isinstance(number, float) and abs(number) > FLOAT32_LIMITS[1]:
                raise RequestError(
                    f"config.{path}: {number} is more than float32 can hold "
                    f"({FLOAT32_LIMITS[1]:.3g})"
                )
        default = fields.get(path)
        if value is None and default is not None:
            raise RequestError(
                f"config.{path}: None is not allowed; the default is {default!r}"
            )
        if value is None or path not in RULES:
            continue
        accepted = RULES[path](value)
        if accepted:
            raise RequestError(f"config.{path}: {value!r} is not {accepted}")
    _validate_method(config)
    _validate_together(config)


def _validate_method(config: Config) -> None:
    name, given = config.method.name, method_options(config)
    options = methods.defaults(name)
    for option in given:
        if option not in options:
            takes = ", ".join(options) or "none"
            raise RequestError(
                f"config.method.{option}: {name} has no such option; it takes: {takes}"
            )
    if config.predictor.hidden and not methods.has_predictor(name):
        raise RequestError(f"config.predictor.hidden: {name} has no predictor")
    # Whether a method in a file has a target shows only in its state; stage `pretrain`
    # checks that.
    known = not name.endswith(".py")
    if known and config.probe.target and not _has_target(options | given):
        raise RequestError(
            f"config.probe.target: {name} has no target network with these options"
        )
    problem = methods.problem(
        name, config.batch_size, config.microbatch or None, **given
    )
    if problem:
        field, reason = problem
        raise RequestError(f"config.{field}: {reason}")


def _has_target(options: dict[str, Any]) -> bool:
    """Whether a method with these options keeps a moving average of its network."""
    mechanism = options.get("mechanism", "queue")  # moco's
    memory = options.get("memory", True)  # simclr's
    return "momentum" in options and mechanism == "queue" and bool(memory)


def _validate_together(config: Config) -> None:
    if config.microbatch and config.batch_size % config.microbatch:
        raise RequestError(
            f"config.microbatch: {config.microbatch} does not divide "
            f"config.batch_size {config.batch_size}"
        )
    for section, encoder in (
        ("encoder", config.encoder),
        ("distill.encoder", config.distill.encoder),
    ):
        if (encoder.width or 1) * 64 % 1:
            raise RequestError(
                f"config.{section}.width: {encoder.width} x 64 channels is not a "
                "whole number; use a multiple of 1/64"
            )
    if config.finetune.from_layer > config.projector.layers:
        raise RequestError(
            f"config.finetune.from_layer: {config.finetune.from_layer} is more than "
            f"config.projector.layers {config.projector.layers}"
        )
    levels = heads.level_names(config.projector.layers)
    if config.probe.features not in levels:
        raise RequestError(
            f"config.probe.features: {config.probe.features!r} is not one of "
            f"{', '.join(levels)} (projector.layers: {config.projector.layers})"
        )
    if config.pretrained and "pretrain" in config.stages:
        raise RequestError(
            "config.pretrained: it replaces pretraining; remove 'pretrain' from "
            "config.stages"
        )
    _validate_start(config)
    _validate_selective_kernels(config)
    fields = dict(flatten(config))
    if config.distill.teacher_stage == "distill" and not config.distill.teacher:
        raise RequestError(
            "config.distill.teacher_stage: 'distill' means the student of another "
            "workdir; name that workdir in config.distill.teacher"
        )
    stages = ("", "probe.", "probe.second.", "finetune.", "supervised.", "distill.")
    for stage in stages:
        warmup, epochs = (
            fields[f"{stage}{name}"] for name in ("optimizer.warmup_epochs", "epochs")
        )
        if warmup > epochs:
            raise RequestError(
                f"config.{stage}optimizer.warmup_epochs: {warmup:g} is more than "
                f"config.{stage}epochs {epochs}"
            )
        _validate_rate(f"{stage}optimizer.lr", fields, stage)
    if config.finetune.scratch_lr is not None:
        _validate_rate("finetune.scratch_lr", fields, "finetune.")


def _validate_start(config: Config) -> None:
    if config.pretrained and config.init_from:
        raise RequestError(
            "config.init_from: config.pretrained names the encoder already; keep one "
            "of the two"
        )
    if config.init_normalized and not config.init_from:
        raise RequestError(
            "config.init_normalized: it says how the weights of config.init_from see "
            "pixels; name some"
        )


def _validate_rate(name: str, fields: dict[str, Any], stage: str) -> None:
    """Raises RequestError unless float32 can hold the rate scaled by the batch size."""
    try:
        optimizers.make_schedule(
            lr=fields[name],
            lr_scaling=fields[f"{stage}optimizer.lr_scaling"],
            batch_size=fields[f"{stage}batch_size"],
            total_steps=1,
        )
    except ValueError as error:
        raise RequestError(f"config.{name}: {error}") from error


def _validate_selective_kernels(config: Config) -> None:
    """Raises RequestError if a network would have a convolution without channels."""
    own, student = config.encoder, config.distill.encoder
    sk = own.sk if student.sk is None else student.sk
    for section, with_sk, width in (
        ("encoder", own.sk, own.width),
        ("distill.encoder", sk, student.width or own.width),
    ):
        if with_sk and own.stem == "imagenet" and width * 64 < 2:
            raise RequestError(
                f"config.{section}.width: {width} is too narrow for selective kernels "
                "(sk) with the imagenet stem; use at least 1/32"
            )


def same_recipe(old: dict[str, Any], config: Config, where: str) -> None:
    """Raises RequestError if a workdir made by `old` can't be continued by `config`.

    A field that is newer than the workdir must have its default, because a new field's
    default does what the code did before. (CONTRIBUTING.md, "A new field") Unset sizes
    of views are to be settled before (`sizes.settle`).

    Args:
      old: the workdir's config.json.
      where: the workdir, for the message.
    """
    made = dict(flatten(ConfigDict(old)))
    # Through JSON, so that tuples compare with the lists they became.
    asked, default = (
        dict(flatten(ConfigDict(json.loads(to_json(fields)))))
        for fields in (config, defaults.get_config())
    )
    made = default | made
    for path in sorted(made.keys() | asked.keys()):
        if path.startswith(_FREE):
            continue
        before, now = made.get(path), asked.get(path)
        if before is None and path in sizes.FIELDS:
            continue  # the workdir is older than the stage: any size will do
        if before != now:
            raise RequestError(
                f"config.{path}: {where} was made with {before!r}, not {now!r}; "
                "use another --workdir"
            )
