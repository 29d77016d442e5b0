"""The rule that each field of `configs/common.py` must keep on its own.

What depends on two fields at once is in `validate.py`.
"""

import re

from simclr_jax import encoders, heads, methods
from simclr_jax.config import rules
from simclr_jax.config.rules import Rule
from simclr_jax.config.stages import STAGES, teachers
from simclr_jax.methods import byol, moco
from simclr_jax.training import optimizers as optim

PRECISIONS = ("float32", "bfloat16", "float16")


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


RULES: dict[str, Rule] = {
    "seed": rules.integer(0, 2**32 - 1),
    "stages": _stages,
    "batch_size": rules.integer(2),
    # BatchNorm of one image's row is no more than its bias.
    "microbatch": lambda v: None if v == 0 or v >= 2 else "0 or at least 2",
    "epochs": rules.integer(1),
    "max_steps": rules.integer(0),
    "precision": rules.one_of(PRECISIONS),
    "log_every": rules.integer(1),
    "eval_batch_size": rules.integer(1),
    "warn_below_std": rules.number(0),
    "method.name": _method,
    "method.temperature": _positive,
    "method.momentum": _fraction,
    "method.memory": rules.integer(0),
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
    "distill.teacher_stage": rules.one_of(teachers()),
    "distill.encoder.depth": rules.one_of(tuple(encoders.DEPTHS)),
    "distill.encoder.width": _positive,
    "distill.encoder.sk": _flag,
    "distill.temperature": _positive,
    "distill.label_weight": _fraction,
    "distill.label_batch_size": rules.integer(1),
    **_under("distill", _trained_stage()),
    **_under("distill.augment", _VIEW),
    "knn.k": rules.integer(1),
    "knn.temperature": _positive,
    "checkpoint.every_steps": rules.integer(1),
    "checkpoint.keep": rules.integer(1),
    "published.rows": _published,
}
