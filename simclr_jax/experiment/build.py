"""Builds what a config describes: networks, method, augmentation, optimizer, plan.

These functions read the config only, neither the workdir nor the images. `placed` and
`made` put networks where the config wants them.
"""

from collections.abc import Callable
from functools import reduce
from operator import getitem
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simclr_jax import augment, data, devices, methods
from simclr_jax.config.fields import Config, method_options
from simclr_jax.config.stages import stream
from simclr_jax.encoders import ResNet
from simclr_jax.experiment.images import pretraining_images
from simclr_jax.experiment.preflight import check_batch
from simclr_jax.heads import Predictor, Projector
from simclr_jax.training import Plan, loss_scale, optimizers


def key(config: Config, purpose: str) -> jax.Array:
    """The PRNG key of a stage or of another purpose; see `config.stages.stream`."""
    return jax.random.fold_in(jax.random.key(config.seed), stream(purpose))


def view(fields: Config, second: Config | None = None) -> augment.View:
    """The augmentation of a config section; fields that `second` sets replace it."""
    chosen = {name: fields[name] for name in augment.View._fields}
    if second is not None:
        chosen |= {k: v for k, v in second.items() if v is not None}
    return augment.View(**chosen)


def resnet(config: Config, fields: Any) -> ResNet:
    """The network of a section like `config.encoder`, at the run's precision."""
    precision = jnp.dtype(config.precision)
    return ResNet(**fields, dtype=precision, remat=config.remat)


def student_fields(config: Config) -> dict[str, Any]:
    """The student's `encoder` section: `distill.encoder`, with unset fields from
    `config.encoder`."""
    changed = config.distill.encoder.items()
    own = {name: value for name, value in changed if value is not None}
    return dict(config.encoder) | own


def method(config: Config, info: data.Info) -> methods.Method:
    """The pretraining method with the run's encoder and projector.

    Args:
      info: of the data set; MoCo's memory bank needs the number of images.
    """
    hidden = config.predictor.hidden
    return methods.make(
        config.method.name,
        resnet(config, config.encoder),
        projector=Projector(**config.projector),
        predictor=Predictor(hidden=hidden) if hidden else None,
        microbatch=config.microbatch or None,
        num_examples=pretraining_images(config, info),
        **method_options(config),
    )


def plan(config: Config, stage: str, num_examples: int) -> tuple[Plan, int]:
    """`(plan, total steps)` for the stage's epochs over `num_examples`.

    Raises:
      RequestError: there are fewer examples than one batch needs.
    """
    check_batch(config, stage, num_examples)
    section = _section(config, stage)
    per_epoch = num_examples // section.batch_size
    total = per_epoch * section.epochs
    limit = config.max_steps
    made = Plan(
        last_step=min(total, limit) if limit else total,
        steps_per_epoch=per_epoch,
        batch_size=section.batch_size,
        log_every=config.log_every,
        save_every=config.checkpoint.every_steps,
    )
    return made, total


def optimizer(
    config: Config, stage: str, plan: Plan, total: int, lr: float | None = None
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The stage's optimizer and schedule; `lr` replaces its learning rate."""
    fields = dict(_section(config, stage).optimizer)
    fields |= {} if lr is None else {"lr": lr}
    warmup = round(fields.pop("warmup_epochs") * plan.steps_per_epoch)
    tx, schedule = optimizers.make(
        batch_size=plan.batch_size,
        warmup_steps=warmup,
        total_steps=total,
        # SimCLRv2's code excludes the classifier from LARS in pretraining and
        # fine-tuning (model.py), but not the student's (distillation_self_training).
        adapt_classifiers=stage == "distill",
        **fields,
    )
    # The probes need no loss scale: their features are float32.
    if config.precision == "float16" and not stage.startswith("probe"):
        tx = loss_scale.dynamic(tx)
    return tx, schedule


def spreads(config: Config, batch_size: int) -> bool:
    """Whether networks that see batches of this size are spread over the devices.

    Devices that compute a whole batch need whole networks too: with parts of them XLA
    would exchange activations, and on a CPU its program fails ("unsupported layout in
    YNN fusion").
    """
    return config.fsdp and devices.divides(batch_size)


def placed(config: Config, network: Any, batch_size: int = 0) -> Any:
    """A network's arrays on the devices: whole, or spread (`spreads`).

    Args:
      batch_size: 0: all batches that the network will see are split.
    """
    return devices.put(network, devices.spread(network, spreads(config, batch_size)))


def made(config: Config, init: Callable[[], Any]) -> Any:
    """`placed(init())`, made in place: no device ever holds more than its part."""
    shardings = devices.spread(jax.eval_shape(init), config.fsdp)
    return jax.jit(init, out_shardings=shardings)()


def _section(config: Config, stage: str) -> Config:
    """Of a stage, or of one within it: "probe.second"."""
    return config if stage == "pretrain" else reduce(getitem, stage.split("."), config)
