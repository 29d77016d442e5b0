"""One run of a recipe: the config turned into data, method, optimizers and keys.

The stages ask an `Experiment` for what they need; below the stages nobody sees the
config.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simclr_jax import augment, checkpoint, data, methods
from simclr_jax import evaluation as evaluate
from simclr_jax.config.stages import stream
from simclr_jax.config.validate import Config, method_options
from simclr_jax.encoders import ResNet
from simclr_jax.experiment import restore as restored
from simclr_jax.experiment.images import Images, pretraining_images
from simclr_jax.experiment.preflight import check_batch
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.heads import Predictor, Projector
from simclr_jax.signals import check_stop
from simclr_jax.training import loss_scale
from simclr_jax.training import optimizers as optim
from simclr_jax.training.loop import Plan


def view(fields: Config, second: Config | None = None) -> augment.View:
    """The augmentation of a config section; what `second` sets replaces it."""
    chosen = {name: fields[name] for name in augment.View._fields}
    if second is not None:
        chosen |= {k: v for k, v in second.items() if v is not None}
    return augment.View(**chosen)


class Experiment:
    """A recipe and its workdir. What costs time is made when first asked for."""

    def __init__(self, config: Config, workdir: Workdir, info: data.Info):
        self.config, self.workdir, self._info = config, workdir, info

    # Keys and plans ---------------------------------------------------------

    def key(self, purpose: str) -> jax.Array:
        """The key of a stage (see `stages.stream`); its steps fold their number in."""
        return jax.random.fold_in(jax.random.key(self.config.seed), stream(purpose))

    def order(self, stage: str) -> tuple[int, ...]:
        """The seed of a stage's data order."""
        return (self.config.seed, stream("data"), stream(stage))

    def _section(self, stage: str) -> Config:
        return self.config if stage == "pretrain" else self.config[stage]

    def plan(self, stage: str, num_examples: int) -> tuple[Plan, int]:
        """`(plan, total steps)` for the stage's epochs over `num_examples`."""
        check_batch(self.config, stage, num_examples)
        section = self._section(stage)
        per_epoch = num_examples // section.batch_size
        total = per_epoch * section.epochs
        limit = self.config.max_steps
        plan = Plan(
            last_step=min(total, limit) if limit else total,
            steps_per_epoch=per_epoch,
            batch_size=section.batch_size,
            log_every=self.config.log_every,
            save_every=self.config.checkpoint.every_steps,
        )
        return plan, total

    def optimizer(
        self, stage: str, plan: Plan, total: int, lr: float | None = None
    ) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The stage's optimizer and schedule; `lr` replaces its learning rate."""
        fields = dict(self._section(stage).optimizer)
        fields |= {} if lr is None else {"lr": lr}
        warmup = round(fields.pop("warmup_epochs") * plan.steps_per_epoch)
        tx, schedule = optim.make(
            batch_size=plan.batch_size,
            warmup_steps=warmup,
            total_steps=total,
            **fields,
        )
        # The probe trains on features, which are float32.
        if self.config.precision == "float16" and stage != "probe":
            tx = loss_scale.dynamic(tx)
        return tx, schedule

    # Data -------------------------------------------------------------------

    @cached_property
    def images(self) -> Images:
        return Images(self.config, (self.config.seed, stream("labels")))

    @property
    def views(self) -> tuple[augment.View, augment.View]:
        """How the two views of an image are drawn in pretraining."""
        fields = self.config.augment
        return view(fields), view(fields, fields.second)

    # The network ------------------------------------------------------------

    @cached_property
    def encoder(self) -> ResNet:
        return self.resnet(self.config.encoder)

    def resnet(self, fields: Any) -> ResNet:
        """The network of a section like `config.encoder`, at this run's precision."""
        precision = jnp.dtype(self.config.precision)
        return ResNet(**fields, dtype=precision, remat=self.config.remat)

    @property
    def student_fields(self) -> dict[str, Any]:
        """The student's `encoder` section: what `distill.encoder` leaves open is this
        run's encoder's."""
        changed = self.config.distill.encoder.items()
        own = {name: value for name, value in changed if value is not None}
        return dict(self.config.encoder) | own

    @cached_property
    def projector(self) -> Projector:
        return Projector(**self.config.projector)

    @cached_property
    def method(self) -> methods.Method:
        name, hidden = self.config.method.name, self.config.predictor.hidden
        return methods.make(
            name,
            self.encoder,
            projector=self.projector,
            predictor=Predictor(hidden=hidden) if hidden else None,
            microbatch=self.config.microbatch or None,
            num_examples=pretraining_images(self.config, self._info),
            **method_options(self.config),
        )

    def init(self) -> tuple[Any, Any]:
        """The method's `(params, model_state)` at step 0; jit it."""
        return self.method.init(self.key("init"), self.blank(self.config.augment.size))

    def blank(self, size: int) -> jax.Array:
        """Two images of nothing, for shapes."""
        return jnp.zeros([2, size, size, self._info.image_shape[-1]])

    @cached_property
    def random_init(self) -> tuple[Any, Any]:
        return jax.jit(self.init)()

    @cached_property
    def _restored(self) -> restored.Restored:
        return restored.read(self.config, self.workdir.path)

    @cached_property
    def pretrained(self) -> tuple[int, Any, Any]:
        """`(step, params, model_state)` of encoder and projector alone, from the
        newest checkpoint of this workdir or of `config.pretrained`."""
        return self._restored.online(jax.eval_shape(self.init))

    @cached_property
    def target(self) -> tuple[int, Any, Any]:
        """The same of the target network."""
        return self._restored.target(jax.eval_shape(self.init))

    def meta(self, source_step: int) -> dict[str, Any]:
        """What a checkpoint says of itself: the network, and the pretraining step
        it started from."""
        network = {name: dict(self.config[name]) for name in ("encoder", "projector")}
        return network | {"source_step": source_step}

    def forget_if_stale(self, stage: str, variant: str, meta: dict[str, Any]) -> None:
        """Drops a variant that came from another pretraining step or teacher."""
        made = checkpoint.read_meta(self.workdir.checkpoints(stage, variant))
        origin = ("source_step", "teacher_step")
        if made and any(made.get(name) != meta.get(name) for name in origin):
            self.workdir.forget(stage, variant)

    # Evaluation -------------------------------------------------------------

    @cached_property
    def _embed(self) -> Callable:
        def embed(params, model_state, batch):
            size = self.config.augment.size
            images = self.test_view(data.take(batch)["image"], size)
            return self.method.embed(params, model_state, images)

        return jax.jit(embed)

    def test_view(self, images: jax.Array, size: int) -> jax.Array:
        """uint8 images as the network sees them outside of training."""
        return augment.center(augment.to_float(images), size=size)

    def features(
        self, params: Any, model_state: Any, source: data.Source, levels=None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """`({level: [N, D]}, labels [N])` of every image, in inference mode."""
        embed = partial(self._embed, params, model_state)
        features = evaluate.extract(embed, self.ordered(source), levels)
        return features, source.labels

    def ordered(self, source: data.Source) -> Iterator[dict]:
        """Batches once through; a signal to stop is heard between two."""
        for batch in source.ordered(self.config.eval_batch_size):
            check_stop()
            yield batch
