"""Optimizers and learning rates: plain arguments in, an optax transformation out.

All optimizers share one weight-decay mask, `decay_mask`. LARS's trust ratio also leaves
out classifiers (`trust_mask`), unless `adapt_classifiers` is set. Steps are optimizer
updates, counted from 0.

    tx, schedule = make("lars", lr=0.075, lr_scaling="sqrt", batch_size=512,
                        weight_decay=1e-6, schedule="cosine", warmup_steps=980,
                        total_steps=98_000)
"""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

OPTIMIZERS = ("adam", "adamw", "lars", "sgd")
SCHEDULES = ("constant", "cosine", "step")
LR_SCALINGS = ("none", "linear", "sqrt")

_SMALLEST, _LARGEST = (float(getattr(jnp.finfo("float32"), x)) for x in ("tiny", "max"))

# Linear classifiers on top of a network, by their place in the parameters.
_CLASSIFIERS = re.compile(r"classifier|online_probe|h|z|head_\d+")


def decay_mask(params: Any) -> Any:
    """Which parameters take weight decay: the kernels.

    The rule: a leaf of two or more dimensions whose own name is neither `bias` nor
    `scale`. That leaves out every bias and both parameters of every normalisation
    layer, as SimCLR's LARS does (google-research/simclr, lars_optimizer.py).

    Args:
      params: any tree of arrays, such as {"encoder": ..., "projector": ...}.

    Returns:
      The same tree with a bool per leaf.

    Example:
      >>> decay_mask({"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}})
      {'Dense_0': {'bias': False, 'kernel': True}}
    """

    def is_kernel(path, leaf):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return leaf.ndim >= 2 and name not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def trust_mask(params: Any) -> Any:
    """Which parameters take LARS's trust ratio: kernels, except of linear classifiers.

    In pretraining and fine-tuning, SimCLR's code leaves out its supervised head
    (`exclude_from_weight_decay`, a list that also applies to the trust ratio). A
    classifier starts at zero, and a step in proportion to its norm stays near zero.

    Args:
      params: as for `decay_mask`; classifiers are the leaves under "classifier",
        "online_probe" or, in a probe, the level's name ("h", "head_1", ..., "z").

    Returns:
      The same tree with a bool per leaf.
    """

    def is_adapted(path, decayed):
        top = jax.tree_util.keystr(path[:1], simple=True)
        return decayed and not _CLASSIFIERS.fullmatch(top)

    return jax.tree_util.tree_map_with_path(is_adapted, decay_mask(params))


def make_schedule(
    *,
    lr: float,
    lr_scaling: str = "none",
    batch_size: int,
    schedule: str = "constant",
    warmup_steps: int = 0,
    total_steps: int,
) -> optax.Schedule:
    """The learning rate as a function of the step.

    It rises linearly from 0 at step 0 to its peak at `warmup_steps`. Then it stays
    there, follows half a cosine to 0 at `total_steps`, or is divided by 10 at 60 % and
    again at 80 % of `total_steps`. Without warm-up, step 0 has the peak. There is no
    decay if the warm-up is as long as the training or longer.

    Args:
      lr: the peak before scaling.
      lr_scaling: "none"; "linear", times batch_size / 256; "sqrt", times
        sqrt(batch_size), as in SimCLR's 0.075 sqrt(B) (arXiv:2002.05709, B.1).
      batch_size: images per step, over all devices.
      schedule: "constant", "cosine", or "step": MoCo v1's at epochs 120 and 160 of 200,
        and its probe's at 60 and 80 of 100.
      warmup_steps: steps of the rise, >= 0.
      total_steps: steps of the whole training, warm-up included.

    Returns:
      step -> learning rate, float32 [].

    Raises:
      ValueError: an unknown name; a rate that float32 does not hold as a positive
        number, before or after scaling; a batch size below 1; a negative number of
        steps.

    Example:
      >>> lr = make_schedule(lr=0.3, lr_scaling="linear", batch_size=512,
      ...                    schedule="cosine", warmup_steps=10, total_steps=110)
      >>> [round(float(lr(step)), 3) for step in (0, 5, 10, 60, 110)]
      [0.0, 0.3, 0.6, 0.3, 0.0]
    """
    _check_name("schedule", schedule, SCHEDULES)
    if min(warmup_steps, total_steps) < 0:
        got = f"got {warmup_steps} and {total_steps}"
        raise ValueError(f"warmup_steps and total_steps must not be negative, {got}")
    peak = _peak(lr, lr_scaling, batch_size)

    def learning_rate(step):
        step = jnp.asarray(step, jnp.float32)
        rise = jnp.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
        if schedule == "constant" or warmup_steps >= total_steps:
            return jnp.asarray(peak * rise, jnp.float32)
        if schedule == "step":
            drops = (step >= 0.6 * total_steps) + 1.0 * (step >= 0.8 * total_steps)
            return peak * rise * 0.1**drops
        progress = (step - warmup_steps) / (total_steps - warmup_steps)
        fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
        return peak * rise * fall

    return learning_rate


def make(
    name: str = "adam",
    *,
    lr: float,
    lr_scaling: str = "none",
    batch_size: int = 256,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    warmup_steps: int = 0,
    total_steps: int,
    momentum: float = 0.9,
    nesterov: bool = False,
    adapt_classifiers: bool = False,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """An optimizer with its schedule. Weight decay reaches the kernels only.

    - adam: decay added to the gradient (L2), then Adam.
    - adamw: decay added to Adam's direction (arXiv:1711.05101), times the lr.
    - sgd: decay added to the gradient, then momentum, times the lr.
    - lars: decay added to the gradient; the sum times 0.001 ||w|| / ||sum|| for the
      kernels of `trust_mask`; times the lr, then momentum, as in SimCLR's code
      (arXiv:1708.03888, "classic momentum").

    Args:
      name: one of OPTIMIZERS.
      lr, lr_scaling, batch_size, schedule, warmup_steps, total_steps: see
        `make_schedule`.
      weight_decay: coefficient, for the kernels only; 0 means none.
      momentum: for sgd and lars; 0 means none. Adam has betas 0.9 and 0.999.
      nesterov: for sgd and lars.
      adapt_classifiers: for lars: the trust ratio also covers classifiers, so that it
        covers what `decay_mask` does. SimCLRv2's distillation needs it: its temperature
        T multiplies the classifier's gradient by 1 / T, which only the trust ratio
        cancels. The optimizer's state has the same structure either way.

    Returns:
      The transformation, whose `update` needs the parameters, and the schedule that it
      follows, for logging.

    Raises:
      ValueError: see `make_schedule`; or a weight decay that is negative or that
        float32 does not hold.

    Example:
      >>> tx, schedule = make("lars", lr=0.3, warmup_steps=10, total_steps=100)
      >>> round(float(schedule(5)), 3)
      0.15
    """
    _check_name("optimizer", name, OPTIMIZERS)
    learning_rate = make_schedule(
        lr=lr,
        lr_scaling=lr_scaling,
        batch_size=batch_size,
        schedule=schedule,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
    )
    adapted = decay_mask if adapt_classifiers else trust_mask
    tx = _transformation(name, learning_rate, weight_decay, momentum, nesterov, adapted)
    return tx, learning_rate


def updates_made(opt_state: Any, otherwise: Any) -> Any:
    """How many updates `make`'s schedule has counted.

    Args:
      opt_state: the state of an optimizer.
      otherwise: the answer for an optimizer without a schedule.

    Returns:
      An integer [], or `otherwise`; also under jit.
    """

    def is_schedule(state):
        return isinstance(state, optax.ScaleByScheduleState)

    states = jax.tree.leaves(opt_state, is_leaf=is_schedule)
    counts = (state.count for state in states if is_schedule(state))
    return next(counts, otherwise)


def _transformation(
    name: str,
    learning_rate: optax.Schedule,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    adapted: Callable[[Any], Any],
) -> optax.GradientTransformation:
    """The optax transformation of one of OPTIMIZERS; `adapted` is LARS's mask."""
    if not isinstance(weight_decay, Tracer) and not 0 <= weight_decay <= _LARGEST:
        raise ValueError(f"weight_decay must be from 0 to 3.4e38, got {weight_decay}")
    if name == "adamw":
        return optax.adamw(learning_rate, weight_decay=weight_decay, mask=decay_mask)
    if name == "lars":
        return optax.lars(
            learning_rate,
            weight_decay=weight_decay,
            # By default, optax decays and adapts every leaf.
            weight_decay_mask=decay_mask,
            trust_ratio_mask=adapted,
            momentum=momentum,
            nesterov=nesterov,
        )
    decay = optax.add_decayed_weights(weight_decay, mask=decay_mask)
    if name == "adam":
        return optax.chain(decay, optax.adam(learning_rate))
    return optax.chain(decay, optax.sgd(learning_rate, momentum or None, nesterov))


def _peak(lr: float, lr_scaling: str, batch_size: int) -> float:
    """The scaled rate; ValueError unless float32 holds both as positive numbers."""
    _check_name("lr_scaling", lr_scaling, LR_SCALINGS)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    factors = {"none": 1.0, "linear": batch_size / 256, "sqrt": math.sqrt(batch_size)}
    factor = factors[lr_scaling]
    scaled = f" times {factor:g}, for the batch of {batch_size},"
    for rate, what in ((lr, ""), (lr * factor, scaled)):
        if not isinstance(rate, Tracer) and not _SMALLEST <= rate <= _LARGEST:
            raise ValueError(
                f"lr{what} must be above 0 and within float32 (1.2e-38 to 3.4e38), "
                f"got {rate}"
            )
    return lr * factor


def _check_name(what: str, name: str, names: tuple[str, ...]) -> None:
    """Raises a ValueError that lists `names` if `name` is not among them."""
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}, expected one of {', '.join(names)}")
