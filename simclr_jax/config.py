"""Checks a recipe before anything is computed or written.

Every field of `configs/common.py` has its rule in `_RULES`; what depends on two
fields at once is in `validate`. A message names the field, the value and what
would be accepted.
"""

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from simclr_jax import encoders, heads, methods, optim, rules
from simclr_jax.errors import RequestError
from simclr_jax.methods import byol, moco
from simclr_jax.rules import Rule

# A ConfigDict. Its fields are checked here, at run time; to a type checker each of them
# could be anything a ConfigDict holds.
Config = Any

# Stages that train or evaluate, by name; launch.py runs them in config.stages' order.
STAGES = ("pretrain", "knn", "probe", "finetune", "supervised", "report")
PRECISIONS = ("float32", "bfloat16", "float16")

# What may differ between two runs on one workdir: how long, how often, where the
# same data lie, how it is shown. Everything else would make it another experiment.
_FREE = (
    "max_steps",
    "stages",
    "log_every",
    "warn_below_std",
    "checkpoint.",
    "tensorboard",
    "published.",
    "data.data_dir",
    "data.download",
    "data.path",
)


def _published(value: tuple) -> str | None:
    for row in value:
        numbers = isinstance(row, tuple) and len(row) == 3 and row[1:]
        if not numbers or any(isinstance(x, str) for x in numbers):
            return "rows of (name, top-1, top-3), in percent or None"
    return None


def _stages(value: tuple) -> str | None:
    unknown = [stage for stage in value if stage not in STAGES]
    if unknown or not value or len(set(value)) != len(value):
        return f"a tuple of different stages out of: {', '.join(STAGES)}"
    return None


def _level(value: str) -> str | None:
    return None if re.fullmatch(r"h|z|head_[1-9]\d*", value) else "h, head_1, ... or z"


def _method(value: str) -> str | None:
    try:
        methods.defaults(value)
    except ValueError as error:
        listed = ", ".join(methods.names())
        return f"one of: {listed}, or a path to a .py file that defines one ({error})"
    return None


_flag = rules.one_of((True, False))
_fraction = rules.number(0, 1)
_positive = rules.number(0, open_low=True)

_OPTIMIZER: dict[str, Rule] = {
    "name": rules.one_of(optim.OPTIMIZERS),
    "lr": _positive,
    "lr_scaling": rules.one_of(optim.LR_SCALINGS),
    "weight_decay": rules.number(0),
    "warmup_epochs": rules.number(0),
    "schedule": rules.one_of(optim.SCHEDULES),
    "momentum": lambda v: None if 0 <= v < 1 else "a number from 0 to below 1",
}
_VIEW: dict[str, Rule] = {
    "size": rules.integer(8),
    "crop_scale": rules.interval(0, 1),
    "crop_ratio": rules.interval(0),
    "rotation": rules.number(0, 180),
    "shear": lambda v: None if 0 <= v < 90 else "a number from 0 to below 90",
    "flip": _fraction,
    "jitter": _fraction,
    "brightness": rules.number(0),
    "contrast": rules.number(0),
    "saturation": rules.number(0),
    "hue": rules.number(0, 0.5),
    "grayscale": _fraction,
    "blur": _fraction,
    "blur_sigma": rules.interval(0),
    "solarize": _fraction,
    "solarize_threshold": _fraction,
    "erase": _fraction,
    "erase_scale": rules.interval(0, 1),
}


def _labelled_stage() -> dict[str, Rule]:
    return {"label_fraction": rules.number(0, 1, open_low=True)} | _trained_stage()


def _trained_stage() -> dict[str, Rule]:
    own = {"epochs": rules.integer(1), "batch_size": rules.integer(1)}
    return own | _under("optimizer", _OPTIMIZER)


def _under(prefix: str, section: dict[str, Rule]) -> dict[str, Rule]:
    return {f"{prefix}.{name}": rule for name, rule in section.items()}


_RULES: dict[str, Rule] = {
    "seed": rules.integer(0, 2**32 - 1),
    "stages": _stages,
    "batch_size": rules.integer(2),
    "microbatch": rules.integer(0),
    "epochs": rules.integer(1),
    "max_steps": rules.integer(0),
    "precision": rules.one_of(PRECISIONS),
    "log_every": rules.integer(1),
    "eval_batch_size": rules.integer(1),
    "warn_below_std": rules.number(0),
    "method.name": _method,
    "method.temperature": _positive,
    "method.momentum": _fraction,
    "method.mechanism": rules.one_of(moco.MECHANISMS),
    "method.queue_size": rules.integer(1),
    "method.bn_groups": rules.integer(1),
    "method.shuffle": _flag,
    "method.symmetric": _flag,
    "method.bank_momentum": _fraction,
    "method.target_init": rules.one_of(byol.TARGET_INITS),
    "predictor.hidden": rules.integer(1),
    "encoder.depth": rules.one_of(tuple(encoders.DEPTHS)),
    "encoder.width": _positive,
    "encoder.stem": rules.one_of(tuple(encoders.STEMS)),
    "encoder.init_scheme": rules.one_of(tuple(encoders.INITS)),
    "projector.layers": rules.integer(0),
    "projector.hidden": rules.integer(1),
    "projector.dim": rules.integer(1),
    "projector.activation": rules.one_of(tuple(heads.ACTIVATIONS)),
    **_under("optimizer", _OPTIMIZER),
    **_under("augment", _VIEW),
    **_under("augment.second", _VIEW),
    "data.limit": rules.integer(0),
    "data.stored_size": rules.integer(0),
    "data.device_limit_gb": rules.number(0),
    "probe.every_epochs": rules.integer(0),
    "probe.features": _level,
    **_under("probe", _labelled_stage()),
    **_under("finetune", _labelled_stage()),
    "finetune.from_layer": rules.integer(0),
    "finetune.scratch_lr": _positive,
    **_under("finetune.augment", _VIEW),
    **_under("supervised", _trained_stage()),
    **_under("supervised.augment", _VIEW),
    "knn.k": rules.integer(1),
    "knn.temperature": _positive,
    "checkpoint.every_steps": rules.integer(1),
    "checkpoint.keep": rules.integer(1),
    "published.rows": _published,
}


def flatten(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of `config` as `("optimizer.lr", 0.001)`; placeholders are None."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def similar(path: str, paths: Iterable[str]) -> str:
    """`; did you mean ...?` for a field that isn't there, "" if nothing is near."""
    leaf = path.rsplit(".", 1)[-1]
    others = [known for known in paths if known != path]
    same = [known for known in others if known.rsplit(".", 1)[-1] == leaf]
    near = same or difflib.get_close_matches(path, others, n=1)
    return f"; did you mean {min(near, key=len)}?" if near else ""


def validate(config: Config, known: Config) -> None:
    """Raises RequestError, naming the field, unless `config` can be run.

    Args:
      known: configs/common.py's, which has every field there is.
    """
    fields = [path for path, _ in flatten(known)]
    given = [path for path, _ in flatten(config)]
    for path in given:
        # A recipe may set options of a method that common.py knows nothing of.
        if path not in fields and not path.startswith("method."):
            raise RequestError(f"config.{path}: no such field{similar(path, fields)}")
    for path in fields:
        if path not in given:
            raise RequestError(
                f"config.{path}: the recipe lacks this field; start it from "
                "configs.common.get_config()"
            )
    for path, value in flatten(config):
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise RequestError(f"config.{path}: {number} is not a finite number")
        if value is None or path not in _RULES:
            continue
        accepted = _RULES[path](value)
        if accepted:
            raise RequestError(f"config.{path}: {value!r} is not {accepted}")
    _validate_method(config)
    _validate_together(config)


def method_options(config: Config) -> dict[str, Any]:
    """What the recipe sets of the method's options."""
    items = config.method.items()
    return {k: v for k, v in items if k != "name" and v is not None}


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
    mechanism = given.get("mechanism", options.get("mechanism", "queue"))
    if config.probe.target and ("momentum" not in options or mechanism != "queue"):
        raise RequestError(f"config.probe.target: {name} here has no target network")
    refused = methods.problem(
        name, config.batch_size, config.microbatch or None, **given
    )
    if refused:
        field, reason = refused
        raise RequestError(f"config.{field}: {reason}")


def _validate_together(config: Config) -> None:
    if config.microbatch and config.batch_size % config.microbatch:
        raise RequestError(
            f"config.microbatch: {config.microbatch} does not divide "
            f"config.batch_size {config.batch_size}"
        )
    width = config.encoder.width * 64
    if width != int(width):
        raise RequestError(
            f"config.encoder.width: {config.encoder.width} x 64 channels is not a "
            "whole number; take a multiple of 1/64"
        )
    if config.finetune.from_layer > config.projector.layers:
        raise RequestError(
            f"config.finetune.from_layer: {config.finetune.from_layer} is above the "
            f"projector's {config.projector.layers} layers"
        )
    levels = heads.level_names(config.projector.layers)
    if config.probe.features not in levels:
        raise RequestError(
            f"config.probe.features: {config.probe.features!r} is not one of "
            f"{', '.join(levels)}, the levels with {config.projector.layers} layers"
        )
    if config.pretrained and "pretrain" in config.stages:
        raise RequestError(
            "config.pretrained: it replaces pretraining; leave 'pretrain' out of "
            "config.stages"
        )
    fields = dict(flatten(config))
    for stage in ("", "probe.", "finetune.", "supervised."):
        warmup, epochs = (
            fields[f"{stage}{name}"] for name in ("optimizer.warmup_epochs", "epochs")
        )
        if warmup > epochs:
            raise RequestError(
                f"config.{stage}optimizer.warmup_epochs: {warmup:g} is more than "
                f"config.{stage}epochs {epochs}"
            )


def to_json(config: Config) -> str:
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def same_recipe(
    old: dict[str, Any], config: Config, where: str, known: Config | None = None
) -> None:
    """Raises RequestError if a workdir made by `old` can't be continued by `config`.

    A field that is younger than the workdir must have its default: that it does what
    was done before is what makes it the default. (CONTRIBUTING.md, "A new field")

    Args:
      old: the workdir's config.json.
      where: the workdir, for the message.
      known: configs/common.py's, for the defaults; without it such fields are free.
    """
    made = dict(flatten(ConfigDict(old)))
    # Through JSON, so that tuples compare with the lists they became.
    asked, defaults = (
        dict(flatten(ConfigDict(json.loads(to_json(fields)))))
        for fields in (config, known or config)
    )
    made = defaults | made
    for path in sorted(made.keys() | asked.keys()):
        if path.startswith(_FREE):
            continue
        before, now = made.get(path), asked.get(path)
        if before != now:
            raise RequestError(
                f"config.{path}: {where} was made with {before!r}, not {now!r}; "
                "take another --workdir"
            )
