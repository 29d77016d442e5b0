"""A finished run as an encoder: three lines from photos to their features.

    import simclr_jax

    encoder = simclr_jax.load("runs/photos")
    features = encoder.embed(["beach.jpg", "forest.jpg"])  # [2, D]

It needs neither the recipe nor the data set nor TensorFlow.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax import augment, heads
from simclr_jax.data.pictures import Form, Pictures, batches, counted
from simclr_jax.encoders import ResNet
from simclr_jax.errors import one_line, refused
from simclr_jax.export import safetensors
from simclr_jax.heads import Classifier, Projector

__all__ = ["Encoder", "Levels", "load"]


class Levels(nn.Module):
    """Encoder, projector and, if there is one, classifier as one flax module.

    Attributes:
      encoder: called as `encoder(images [B, s, s, C], train) -> h [B, F]`.
      projector: see `simclr_jax.heads.Projector`.
      classifier: on the highest level, or None.
      upto: how many layers of the projector there are; None: all.
    """

    encoder: nn.Module
    projector: Projector
    classifier: Classifier | None = None
    upto: int | None = None

    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Images [B, s, s, C] in [0, 1] -> {"h", "head_1", ..., "z"}, each [B, ...]."""
        h: Any = self.encoder(images, train)
        return self.projector.levels(h, train, self.upto)

    def logits(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, s, s, C] in [0, 1] -> [B, classes]; needs a classifier."""
        assert self.classifier is not None
        return self.classifier(list(self(images, train).values())[-1])


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained network with all that is needed to use it; see `load`.

    Attributes:
      module: the flax module: `module.apply(variables, images)` gives all levels. With
        `train=True, mutable=["batch_stats"]` it goes on training in your own code.
      variables: `{"params", "batch_stats"}`, jax arrays.
      config: describes the network: `encoder`, `projector`, `precision`, `channels`,
        `size`, `preprocessing`, `data`, `class_names`, `method`, `stage`, `variant`,
        `step`.
    """

    module: Levels
    variables: dict[str, Any]
    config: dict[str, Any]

    def __repr__(self) -> str:
        """What it is in one line; flax's own shows every layer of the module."""
        shape, config = self.config["encoder"], self.config
        network = f"ResNet-{shape['depth']}"
        network += f" x {shape['width']:g}" if shape["width"] != 1 else ""
        network += " with selective kernels" if shape["sk"] else ""
        origin = f"stage {config['stage']}, step {config['step']}"
        size = f"{config['size']} px, {config['channels']} channels"
        return f"Encoder({network}, {size}, levels {', '.join(self.levels)}; {origin})"

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that the network has, from the encoder upwards."""
        names = heads.level_names(self.module.projector.layers)
        return tuple(names if self.module.upto is None else names[: self._above])

    @property
    def _above(self) -> int:
        return (self.module.upto or 0) + 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels; of the data set that it was trained on."""
        return tuple(self.config["class_names"])

    def embed(
        self, images: Pictures, level: str = "h", batch_size: int = 256
    ) -> np.ndarray:
        """Features of images, which it prepares as the run's evaluation does.

        An array of the size that the network sees, or of the size in which its data set
        was stored, is taken as it is. Any other image, and every file, gives its
        central square, resized. Files are upright as their EXIF says.

        Args:
          images: uint8 [N, H, W, C], or a list whose elements are arrays [H, W, C] or
            [H, W] of any sizes, or names of image files.
          level: one of `levels`.
          batch_size: images that the network sees at a time.

        Returns:
          float32 [N, D].

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: no such level, or an image can't be used.
        """
        if level not in self.levels:
            raise ValueError(
                f"level: {level!r} is not one of {', '.join(self.levels)}, which this "
                "network has"
            )
        return self._rows(images, batch_size, self._embed[level])

    def predict(
        self, images: Pictures, batch_size: int = 256
    ) -> tuple[np.ndarray, np.ndarray]:
        """The class of each image, by a network that was trained on labels.

        Args:
          images, batch_size: as for `embed`.

        Returns:
          `(names [N], probabilities [N, C])`, with C in the order of `class_names`.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the network has no classifier, or an image can't be used.
        """
        if self.module.classifier is None:
            raise ValueError(
                "this network has no classifier; load one that was trained on labels: "
                "simclr_jax.load(run, stage='finetune')"
            )
        probabilities = self._rows(images, batch_size, self._classify)
        return np.array(self.class_names)[probabilities.argmax(-1)], probabilities

    def apply(self, images: jax.Array) -> dict[str, jax.Array]:
        """All levels of prepared images, in inference mode; pure.

        In someone's jit the weights become constants of the program. To pass them as an
        argument, call `module.apply(variables, images)`.

        Args:
          images: [B, s, s, C], floats in [0, 1]; `config["size"]` is s.

        Returns:
          `{"h", "head_1", ..., "z"}`, each float32 [B, D].
        """
        levels: Any = self.module.apply(self.variables, images)
        return levels

    def save(self, path: str | os.PathLike) -> None:
        """Writes all of it into one safetensors file, which `load` reads.

        Args:
          path: of the file; an older one is replaced.

        Raises:
          OSError: it can't be written.
        """
        variables = jax.device_get(self.variables)
        safetensors.save(path, self.config, variables)

    @cached_property
    def _embed(self) -> dict[str, Callable[..., jax.Array]]:
        """The compiled program of each level, which leaves out what lies above it."""

        def run(level: str, variables: Any, images: jax.Array) -> jax.Array:
            levels: Any = self.module.apply(variables, self._view(images))
            return levels[level]

        return {level: jax.jit(partial(run, level)) for level in self.levels}

    @cached_property
    def _classify(self) -> Callable[..., jax.Array]:
        def run(variables: Any, images: jax.Array) -> jax.Array:
            images = self._view(images)
            logits: Any = self.module.apply(variables, images, method="logits")
            return jax.nn.softmax(logits)

        return jax.jit(run)

    def _view(self, images: jax.Array) -> jax.Array:
        """uint8 images as the network sees them in evaluation."""
        return augment.center(augment.to_float(images), size=self.config["size"])

    def _rows(
        self, images: Pictures, batch_size: int, run: Callable[..., jax.Array]
    ) -> np.ndarray:
        """What `run(variables, uint8 [batch_size, ...])` gives for each image."""
        given = counted(images)
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is less than 1")
        batch_size = min(batch_size, len(given))
        made = self.config["preprocessing"]
        form = Form(
            self.config["channels"],
            self.config["size"],
            made["stored"] and tuple(made["stored"]),
            made.get("bits", 0),
        )
        rows: list[Any] = [None] * len(given)
        waiting: list[tuple[np.ndarray, jax.Array]] = []

        def collect() -> None:
            positions, output = waiting.pop(0)
            for position, row in zip(positions, np.asarray(output), strict=False):
                rows[position] = row

        for positions, batch in batches(given, batch_size, form):
            missing = batch_size - len(batch)  # one shape, one program
            padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)), "edge")
            waiting.append((positions, run(self.variables, padded)))
            if len(waiting) > 1:  # the device computes one while the next is decoded
                collect()
        while waiting:
            collect()
        return np.stack(rows).astype(np.float32)


def load(
    run: str | os.PathLike,
    *,
    stage: str = "pretrain",
    variant: str = "",
    step: int | None = None,
) -> Encoder:
    """The network that a run has trained.

    Args:
      run: the workdir, or a file that stage `export` or `Encoder.save` wrote.
      stage: which stage trained it: "pretrain", "probe", "finetune", "supervised" or
        "distill". All but the first have a classifier.
      variant: "" is the stage's main network: "pretrained" of finetune, "student" of
        distill. Of pretrain and
        probe, "target" is the moving average.
      step: of the stage's checkpoints; None is the newest.

    Raises:
      FileNotFoundError: there is no such run or file, or it has no such checkpoint.
      ValueError: no such stage, variant or step, or the checkpoint or file is damaged.
    """
    if why := refused(run):
        raise ValueError(f"can't use {run}: {why}")
    path = Path(run).expanduser()
    if path.is_file():
        if (stage, variant, step) != ("pretrain", "", None):
            raise ValueError(f"{path} is a file and has one network: give no stage")
        return _encoder(*safetensors.read(path))
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run or file {path}")
    from simclr_jax.experiment import saved  # a file needs none of what that imports

    return _encoder(*saved.read(path, stage=stage, variant=variant, step=step))


def _encoder(about: dict[str, Any], variables: dict[str, Any]) -> Encoder:
    try:
        from_layer, classes = about["from_layer"], len(about["class_names"])
        module = Levels(
            ResNet(**about["encoder"], dtype=jnp.dtype(about["precision"])),
            Projector(**about["projector"]),
            None if from_layer is None else Classifier(classes),
            from_layer,
        )
        if about["preprocessing"]["view"] != "center":
            raise ValueError(f"no preprocessing {about['preprocessing']['view']!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        kind = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"it may be from a newer version: {kind}") from error
    return Encoder(module, jax.tree.map(jnp.asarray, variables), about)
