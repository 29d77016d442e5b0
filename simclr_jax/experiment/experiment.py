"""One run of a recipe: its workdir, its images, and its networks at their random
initialisation and after pretraining.

The stages get what they need from an `Experiment`. The code that they call does not see
the config.
"""

from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simclr_jax import augment, checkpoint, data, devices, evaluation, methods
from simclr_jax.config.fields import Config
from simclr_jax.config.stages import stream
from simclr_jax.data.fingerprint import Fingerprints, changed
from simclr_jax.encoders import ResNet
from simclr_jax.experiment import build, initial, restore, seen
from simclr_jax.experiment.description import describe
from simclr_jax.experiment.features import MOST_BYTES, Features, Kept
from simclr_jax.experiment.images import Images
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.heads import Projector
from simclr_jax.networks import Network
from simclr_jax.processes import StopVote
from simclr_jax.training import Plan, terminal

# Features on the device, in kNN and probe during pretraining.
_DEVICE_BYTES = 2_000_000_000
_CALIBRATION_BATCHES = 8
_NETWORK = ("encoder", "projector")


class Experiment:
    """A recipe and its workdir. Whatever is slow to make is made on first use."""

    def __init__(self, config: Config, workdir: Workdir, info: data.Info):
        self.config, self.workdir, self._info = config, workdir, info
        self._optimizer = cache(partial(build.optimizer, config))

    # Keys, plans and optimizers: see `build` ---------------------------------

    def key(self, purpose: str) -> jax.Array:
        return build.key(self.config, purpose)

    def order(self, purpose: str) -> tuple[int, ...]:
        """The seed that shuffles a stage's images."""
        return (self.config.seed, stream("data"), stream(purpose))

    def plan(self, stage: str, num_examples: int) -> tuple[Plan, int]:
        return build.plan(self.config, stage, num_examples)

    def optimizer(
        self, stage: str, plan: Plan, total: int, lr: float | None = None
    ) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The same objects for the same arguments, by which compiled steps are kept."""
        return self._optimizer(stage, plan, total, lr)

    # Data -------------------------------------------------------------------

    @cached_property
    def images(self) -> Images:
        return Images(self.config, (self.config.seed, stream("labels")))

    @property
    def views(self) -> tuple[augment.View, augment.View]:
        """How the two views of an image are drawn in pretraining."""
        fields = self.config.augment
        return build.view(fields), build.view(fields, fields.second)

    def blank(self, size: int) -> jax.Array:
        """Two black images, to find shapes with."""
        return jnp.zeros([2, size, size, self._info.image_shape[-1]])

    # Networks ---------------------------------------------------------------

    @cached_property
    def encoder(self) -> ResNet:
        return build.resnet(self.config, self.config.encoder)

    @cached_property
    def projector(self) -> Projector:
        return Projector(**self.config.projector)

    @cached_property
    def method(self) -> methods.Method:
        return build.method(self.config, self._info)

    def init(self) -> tuple[Any, Any]:
        """The method's `(params, model_state)` at step 0. The caller should jit it."""
        return self.method.init(self.key("init"), self.blank(self.config.augment.size))

    @cached_property
    def start(self) -> initial.Start | None:
        """The weights of `config.init_from`; None: there are none, or the workdir has
        gone on from them already."""
        if not initial.needed(self.config, self.workdir.path):
            return None
        return initial.read(self.config, self._info)

    @cached_property
    def random_init(self) -> tuple[Any, Any]:
        return build.made(self.config, self.init)

    @cached_property
    def untrained(self) -> tuple[Any, Any]:
        """`random_init` as it is evaluated: with `config.probe.calibrate`, with the
        BatchNorm statistics of training images."""
        params, model_state = self.random_init
        if not self.config.probe.calibrate:
            return params, model_state
        network = Network(self.encoder, self.projector)
        size, source = self.config.augment.size, self.images.train

        # The parameters are an argument: as constants they would lie whole.
        def train(batch_stats: Any, given: tuple[Any, data.Batch]) -> Any:
            params, batch = given
            images = self.test_view(data.take(batch)["image"], size)
            return network.train(params, batch_stats, images)[1]

        batch_size = min(self.config.eval_batch_size, source.num_examples)
        batches = source.batches(batch_size, seed=self.order("probe"))
        given = build.placed(self.config, params, batch_size)
        own = {name: model_state["batch_stats"][name] for name in _NETWORK}
        few = (
            (given, devices.place(batch))
            for batch in islice(batches, _CALIBRATION_BATCHES)
        )
        stats = devices.put(evaluation.calibrate(train, own, few), devices.whole())
        batch_stats = model_state["batch_stats"] | stats
        return params, model_state | {"batch_stats": batch_stats}

    @cached_property
    def _restored(self) -> restore.Restored:
        return restore.read(self.config, self.workdir.path)

    @cached_property
    def pretrained(self) -> tuple[int, Any, Any]:
        """`(step, params, model_state)` of encoder and projector alone, from the
        newest checkpoint of this workdir or of `config.pretrained`."""
        step, *found = self._restored.online(jax.eval_shape(self.init))
        return step, *build.placed(self.config, tuple(found))

    @cached_property
    def target(self) -> tuple[int, Any, Any]:
        """Like `pretrained`, from the target network, its moving average."""
        step, *found = self._restored.target(jax.eval_shape(self.init))
        return step, *build.placed(self.config, tuple(found))

    # Checkpoints ------------------------------------------------------------

    def meta(self, source_step: int) -> dict[str, Any]:
        """The description stored in a checkpoint: the network, its images, and the
        pretraining step that it started from."""
        made_of = {"source_step": source_step, "images": self.fingerprints()}
        return describe(self.config, self._info) | made_of

    def fingerprints(self, *, test: bool = False) -> Fingerprints:
        """Of the splits to train on and, with `test`, to evaluate on."""
        return seen.fingerprints(self.config, self._info, test=test)

    def forget_if_stale(self, stage: str, variant: str, meta: dict[str, Any]) -> None:
        """Deletes a variant of another pretraining step, teacher or data set."""
        made = checkpoint.read_meta(self.workdir.checkpoints(stage, variant))
        origin = ("source_step", "teacher_step")
        if not made:
            return
        other = any(made.get(name) != meta.get(name) for name in origin)
        if other or changed(made.get("images", {}), meta.get("images", {})):
            self.workdir.forget(stage, variant)

    # Evaluation -------------------------------------------------------------

    def features(
        self,
        params: Any,
        model_state: Any,
        source: data.Source,
        levels: tuple[str, ...] | None = None,
        *,
        on_device: bool = False,
    ) -> Features:
        """`({level: [N, D]}, labels [N])` of every image, in inference mode.

        With `on_device` they stay on each device up to 2 GB; else they are NumPy.
        """
        params, model_state = build.placed(self.config, (params, model_state))

        def embed(batch: dict) -> dict[str, jax.Array]:
            return self._embed(params, model_state, devices.place(batch))

        limit = _DEVICE_BYTES if on_device else 0
        features = evaluation.extract(
            embed, self.ordered(source), levels, device_bytes=limit
        )
        return features, source.labels

    def own_features(
        self, network: str, split: str, levels: tuple[str, ...] | None = None
    ) -> Features:
        """`features` of a split by one of the run's own networks, computed once.

        Args:
          network: "pretrained", "random_init" or "target".
          split: "train" or "test".
          levels: the levels to return; None returns all.
        """
        source = getattr(self.images, split)
        return self._kept.split((network, split), self.own(network), source, levels)

    def own_rows(
        self,
        network: str,
        split: str,
        rows: np.ndarray,
        levels: tuple[str, ...] | None = None,
    ) -> Features:
        """Like `own_features`, of the images at increasing positions `rows` alone."""
        key, source = (network, split), getattr(self.images, split)
        return self._kept.rows(key, self.own(network), source, rows, levels)

    def own(self, network: str) -> tuple[Any, Any]:
        """`(params, model_state)` of "pretrained", "random_init" or "target"."""
        if network == "random_init":
            return self.untrained
        _, *found = self.target if network == "target" else self.pretrained
        params, model_state = found
        return params, model_state

    @cached_property
    def _kept(self) -> Kept:
        blank = self.blank(self.config.augment.size)
        return Kept(
            lambda *args: self.features(*args)[0],
            lambda *network: self.method.embed(*network, blank),
            MOST_BYTES,
        )

    @cached_property
    def _embed(self) -> Callable:
        def embed(params, model_state, batch):
            size = self.config.augment.size
            images = self.test_view(data.take(batch)["image"], size)
            return self.method.embed(params, model_state, images)

        return jax.jit(embed, out_shardings=devices.whole())

    def test_view(self, images: jax.Array, size: int) -> jax.Array:
        """uint8 images as the network sees them in evaluation."""
        return augment.center(augment.to_float(images), size=size)

    def ordered(self, source: data.Source) -> Iterator[dict]:
        """One pass over the images in batches, which a signal stops between two.

        All devices share them: a batch is `eval_batch_size`, or all images if these are
        fewer, rounded up to a multiple.
        """
        signal = StopVote()
        size = devices.round_up(min(self.config.eval_batch_size, source.num_examples))
        batches, count = source.ordered(size), -(-source.num_examples // size)
        doing = f"features of {source.num_examples:,} images"
        for batch in terminal.counted(doing, batches, count):
            signal.check()
            yield batch
