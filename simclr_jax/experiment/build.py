"""What a config asks for, as objects: networks, method, augmentation, optimizer, plan.

Functions of the config alone: no workdir, no images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from simclr_jax import augment, data, methods
from simclr_jax.config.fields import Config, method_options
from simclr_jax.config.stages import stream
from simclr_jax.encoders import ResNet
from simclr_jax.experiment.images import pretraining_images
from simclr_jax.experiment.preflight import check_batch
from simclr_jax.heads import Predictor, Projector
from simclr_jax.training import Plan, loss_scale
from simclr_jax.training import optimizers as optim


def key(config: Config, purpose: str) -> jax.Array:
    """The key of a stage or of another purpose; see `config.stages.stream`."""
    return jax.random.fold_in(jax.random.key(config.seed), stream(purpose))


def view(fields: Config, second: Config | None = None) -> augment.View:
    """The augmentation of a config section; what `second` sets replaces it."""
    chosen = {name: fields[name] for name in augment.View._fields}
    if second is not None:
        chosen |= {k: v for k, v in second.items() if v is not None}
    return augment.View(**chosen)


def resnet(config: Config, fields: Any) -> ResNet:
    """The network of a section like `config.encoder`, at the run's precision."""
    precision = jnp.dtype(config.precision)
    return ResNet(**fields, dtype=precision, remat=config.remat)


def student_fields(config: Config) -> dict[str, Any]:
    """The student's `encoder` section: `config.encoder` where `distill.encoder` leaves
    a field open."""
    changed = config.distill.encoder.items()
    own = {name: value for name, value in changed if value is not None}
    return dict(config.encoder) | own


def method(config: Config, info: data.Info) -> methods.Method:
    """The pretraining method on the run's encoder and projector.

    Args:
      info: what the data set says of itself; a memory of images needs their number.
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
      RequestError: there are fewer examples than one batch has.
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
    tx, schedule = optim.make(
        batch_size=plan.batch_size,
        warmup_steps=warmup,
        total_steps=total,
        **fields,
    )
    # The probe trains on features, which are float32.
    if config.precision == "float16" and stage != "probe":
        tx = loss_scale.dynamic(tx)
    return tx, schedule


def _section(config: Config, stage: str) -> Config:
    return config if stage == "pretrain" else config[stage]
