"""The rule for the value of each field, and functions that make such rules.

`validate.py` checks what depends on two fields at once.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from simclr_jax import encoders, heads, methods
from simclr_jax.config.stages import STAGES, teachers
from simclr_jax.errors import refused
from simclr_jax.export import embeddings, formats
from simclr_jax.methods import byol, moco, simclr
from simclr_jax.training import optimizers as optim

PRECISIONS = ("float32", "bfloat16", "float16")
LOGGERS = ("tensorboard", "wandb", "mlflow")
# The smallest and the largest number that float32 holds in full.
FLOAT32_LIMITS = tuple(float(getattr(np.finfo(np.float32), x)) for x in ("tiny", "max"))

_INT32 = 2**31 - 1  # the largest step, position or size that the arrays can hold
_SIDE = 8192  # of an image in pixels
_UNITS = 2**20  # of a layer of a head
_WIDTH = 64  # times the standard width; the widest published is 4
# Fields that name a file or folder to read.
PATHS = (
    *("data.path", "data.data_dir", "data.labels", "pretrained", "init_from"),
    *("finetune.label_file", "distill.teacher", "embed.images"),
)
# A rule takes a field's value. It returns None for a valid one, else what is accepted.
Rule = Callable[[Any], str | None]


def integer(low: int, high: int = _INT32) -> Rule:
    """An integer from `low` to `high`, both allowed."""

    def rule(value: int) -> str | None:
        if low <= value <= high:
            return None
        # Who asks for too little need not hear of a limit that is far away.
        limit = "" if high == _INT32 and value < low else f" and at most {high}"
        return f"an integer of at least {low}{limit}"

    return rule


def number(low: float, high: float = math.inf, *, open_low: bool = False) -> Rule:
    """A number from `low` (not `low` itself with `open_low`) to `high`."""

    def rule(value: float) -> str | None:
        if (low < value if open_low else low <= value) and value <= high:
            return None
        if high == math.inf:
            return f"a number {'above' if open_low else 'of at least'} {low:g}"
        return f"a number {'above' if open_low else 'from'} {low:g} to {high:g}"

    return rule


def one_of(names: tuple) -> Rule:
    """One of these values."""
    listed = ", ".join(map(str, names))
    return lambda value: None if value in names else f"one of: {listed}"


def interval(low: float, high: float = math.inf) -> Rule:
    """A pair of numbers above `low` and up to `high`, the smaller first."""

    def rule(value: tuple) -> str | None:
        numbers = all(isinstance(x, int | float) for x in value)
        if len(value) == 2 and numbers and low < value[0] <= value[1] <= high:
            return None
        limit = "" if high == math.inf else f" <= {high:g}"
        return f"a pair of numbers with {low:g} < first <= second{limit}"

    return rule


def _published(value: tuple) -> str | None:
    for row in value:
        numbers = isinstance(row, tuple) and len(row) in (3, 4) and row[1:]
        if not numbers or any(isinstance(x, str) for x in numbers):
            return "rows of (name, top-1, top-3[, top-5]), in percent or None"
    return None


def _stages(value: tuple) -> str | None:
    unknown = [stage for stage in value if stage not in STAGES]
    if unknown or not value or len(set(value)) != len(value):
        return f"a tuple of different stages from: {', '.join(STAGES)}"
    return None


def _formats(value: tuple) -> str | None:
    known = formats.FORMATS
    if not value or len(set(value)) != len(value) or not set(value) <= set(known):
        return f"a tuple of different formats from: {', '.join(known)}"
    return None


def _loggers(value: tuple) -> str | None:
    if len(set(value)) != len(value) or not set(value) <= set(LOGGERS):
        return f"a tuple of different loggers from: {', '.join(LOGGERS)}"
    return None


def _level(value: str) -> str | None:
    return None if re.fullmatch(r"h|z|head_[1-9]\d*", value) else "h, head_1, ... or z"


def _path(value: str) -> str | None:
    why = refused(value) if value else ""
    return f"a path that can be used: {why}" if why else None


def _method(value: str) -> str | None:
    try:
        methods.defaults(value)
    except ValueError as error:
        listed = ", ".join(methods.names())
        why = f" ({error})" if value.endswith(".py") else ""
        return f"one of: {listed}, or the path of a .py file that defines one{why}"
    return None


_flag = one_of((True, False))
_fraction = number(0, 1)


def _positive(value: float) -> str | None:
    if value <= 0:
        return "a number above 0"
    if value < FLOAT32_LIMITS[0]:  # it would become 0
        return f"a number that float32 can hold, from {FLOAT32_LIMITS[0]:.3g}"
    return None


_OPTIMIZER: dict[str, Rule] = {
    "name": one_of(optim.OPTIMIZERS),
    "lr": _positive,
    "lr_scaling": one_of(optim.LR_SCALINGS),
    "weight_decay": number(0),
    "warmup_epochs": number(0),
    "schedule": one_of(optim.SCHEDULES),
    "momentum": lambda v: None if 0 <= v < 1 else "a number from 0 to below 1",
}
_VIEW: dict[str, Rule] = {
    "size": integer(8, _SIDE),
    "crop_scale": interval(0, 1),
    "crop_ratio": interval(0),
    "rotation": number(0, 180),
    "shear": lambda v: None if 0 <= v < 90 else "a number from 0 to below 90",
    "flip": _fraction,
    "jitter": _fraction,
    "brightness": number(0),
    "contrast": number(0),
    "saturation": number(0),
    "hue": number(0, 0.5),
    "grayscale": _fraction,
    "blur": _fraction,
    "blur_sigma": interval(0),
    "solarize": _fraction,
    "solarize_threshold": _fraction,
    "erase": _fraction,
    "erase_scale": interval(0, 1),
}


def _labelled_stage() -> dict[str, Rule]:
    return {"label_fraction": number(0, 1, open_low=True)} | _trained_stage()


def _trained_stage() -> dict[str, Rule]:
    own = {"epochs": integer(1), "batch_size": integer(1)}
    return own | _under("optimizer", _OPTIMIZER)


def _under(prefix: str, section: dict[str, Rule]) -> dict[str, Rule]:
    return {f"{prefix}.{name}": rule for name, rule in section.items()}


RULES: dict[str, Rule] = {
    "seed": integer(0, 2**32 - 1),
    "stages": _stages,
    "batch_size": integer(2),
    # BatchNorm of a single image returns only its bias.
    "microbatch": lambda v: None if v == 0 or v >= 2 else "0 or at least 2",
    "epochs": integer(1),
    "max_steps": integer(0),
    "precision": one_of(PRECISIONS),
    "deterministic": _flag,
    "devices": integer(0),
    "fsdp": _flag,
    "init_normalized": _flag,
    **dict.fromkeys(PATHS, _path),
    "log_every": integer(1),
    "loggers": _loggers,
    "scores_every_epochs": integer(0),
    "eval_batch_size": integer(1),
    "warn_below_std": number(0),
    "method.name": _method,
    "method.temperature": _positive,
    "method.momentum": _fraction,
    "method.memory": integer(0),
    "method.decoupled": one_of(simclr.DECOUPLED),
    "method.mechanism": one_of(moco.MECHANISMS),
    "method.queue_size": integer(1),
    "method.bn_groups": integer(1),
    "method.shuffle": one_of(moco.SHUFFLES),
    "method.symmetric": _flag,
    "method.bank_momentum": _fraction,
    "method.target_init": one_of(byol.TARGET_INITS),
    "method.redundancy": number(0),
    "method.invariance": number(0),
    "method.variance": number(0),
    "method.covariance": number(0),
    "predictor.hidden": integer(1, _UNITS),
    "encoder.depth": one_of(tuple(encoders.DEPTHS)),
    "encoder.width": number(0, _WIDTH, open_low=True),
    "encoder.stem": one_of(tuple(encoders.STEMS)),
    "encoder.init_scheme": one_of(tuple(encoders.INITS)),
    "projector.layers": integer(0, 64),
    "projector.hidden": integer(1, _UNITS),
    "projector.dim": integer(1, _UNITS),
    "projector.activation": one_of(tuple(heads.ACTIVATIONS)),
    **_under("optimizer", _OPTIMIZER),
    **_under("augment", _VIEW),
    **_under("augment.second", _VIEW),
    "data.limit": integer(0),
    "data.stored_size": integer(0, _SIDE),
    "data.device_limit_gb": number(0),
    "data.skip_damaged": integer(0),
    "probe.every_epochs": integer(0),
    "probe.features": _level,
    "probe.standardize": _flag,
    "probe.calibrate": _flag,
    "probe.second.run": _flag,
    "probe.second.standardize": _flag,
    **_under("probe", _labelled_stage()),
    "finetune.every_epochs": integer(0),
    **_under("probe.second", _trained_stage()),
    **_under("finetune", _labelled_stage()),
    "finetune.from_layer": integer(0),
    "finetune.scratch_lr": _positive,
    **_under("finetune.augment", _VIEW),
    **_under("supervised", _trained_stage()),
    **_under("supervised.augment", _VIEW),
    "distill.teacher_stage": one_of(teachers()),
    "distill.encoder.depth": one_of(tuple(encoders.DEPTHS)),
    "distill.encoder.width": number(0, _WIDTH, open_low=True),
    "distill.encoder.sk": _flag,
    "distill.temperature": _positive,
    "distill.label_weight": _fraction,
    "distill.label_batch_size": integer(1),
    **_under("distill", _trained_stage()),
    **_under("distill.augment", _VIEW),
    "knn.k": integer(1),
    "knn.temperature": _positive,
    "embed.level": _level,
    "embed.format": one_of(embeddings.FORMATS),
    "export.formats": _formats,
    "export.preprocessing": _flag,
    "checkpoint.every_steps": integer(1),
    "checkpoint.keep": integer(1),
    "published.rows": _published,
}
