"""The train step of a recipe on ImageNet, from abstract shapes: no images, no weights.

It is what stage `pretrain` makes of the recipe, on so many devices.
"""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from simclr_jax import data, devices
from simclr_jax.config.validate import validate
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.preflight import check_shares
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages import pretrain, programs

CLASSES, IMAGES = 1000, 1_281_167


def program(config: Any, number: int) -> tuple[Any, tuple, tuple[int, int]]:
    """`(step, its arguments' shapes, sides of the images)`, as stage `pretrain` has it
    on the first devices of this process."""
    validate(config)
    devices.use(number)
    check_shares(config)
    stored = config.data.stored_size
    names = tuple(map(str, range(CLASSES)))
    counts = {config.data.train_split: IMAGES}
    info = data.Info("imagenet2012", counts, CLASSES, names, (stored, stored, 3))
    experiment = Experiment(config, Workdir("unused", config), info)  # not opened
    images = SimpleNamespace(num_examples=IMAGES, num_classes=CLASSES)
    experiment.__dict__["images"] = SimpleNamespace(unlabelled=images)
    training = pretrain.training(experiment)
    plan, total = experiment.plan("pretrain", IMAGES)
    tx, _ = experiment.optimizer("pretrain", plan, total)

    def after(params: Any, model_state: Any, step: Any) -> Any:
        return training.update(params, model_state, step / total)

    origin = programs.origin(
        training.init, training.init_args, tx, fsdp=config.fsdp and number > 1
    )
    step = programs.step(training.loss_fn, tx, after, origin.like, several=False)
    batch = (config.batch_size,)
    image = jax.ShapeDtypeStruct((*batch, stored, stored, 3), jnp.uint8)
    row = jax.ShapeDtypeStruct(batch, jnp.int32)
    rows = devices.laid_out(
        {"image": image, "label": row, "index": row}, devices.rows()
    )
    key = jax.eval_shape(lambda: experiment.key("pretrain"))
    return step, (origin.like, key, rows), (stored, config.augment.size)
