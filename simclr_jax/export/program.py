"""What an exported program computes: images in, features out, the weights inside."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax import augment


class Program(NamedTuple):
    """A function of images, and what it takes and gives.

    Attributes:
      run: flax's variables, images [B, *shape] -> a tuple of outputs, each [B, D].
      variables: the weights.
      shape: (H, W, C) of the images.
      dtype: uint8 with preprocessing, else float32.
      outputs: the names of the outputs: the level, and "probabilities" of a network
        with a classifier.
    """

    run: Callable[[Any, Any], tuple[jax.Array, ...]]
    variables: Any
    shape: tuple[int, int, int]
    dtype: Any
    outputs: tuple[str, ...]

    def whole(self, images: Any) -> tuple[jax.Array, ...]:
        """`run` with the weights inside."""
        return self.run(self.variables, images)


def program(
    encoder: Any, *, level: str = "h", preprocessing: bool = True, plain: bool = False
) -> Program:
    """The program of an encoder in inference mode.

    Args:
      encoder: as `simclr_jax.load` gives it.
      level: one of `encoder.levels`.
      preprocessing: the images are uint8 of the size in which the run stored them; the
        program scales and crops them as evaluation does. Otherwise they are floats in
        [0, 1] of the size that the network sees.
      plain: in float32 whatever the precision of the run, and resizing as two products
        of matrices, for converters that know few operations.

    Raises:
      ValueError: no such level.
    """
    if level not in encoder.levels:
        raise ValueError(
            f"level: {level!r} is not one of {', '.join(encoder.levels)}, which this "
            "network has"
        )
    module, size = encoder.module, encoder.config["size"]
    if plain:
        module = module.clone(encoder=module.encoder.clone(dtype=jnp.float32))
    side = encoder.config["preprocessing"]["stored"] or (size, size)
    height, width = side if preprocessing else (size, size)
    view = _plain_view(height, width, size) if plain else _view(size)

    def outputs(network: Any, images: jax.Array) -> tuple[jax.Array, ...]:
        levels = network(images)
        if network.classifier is None:
            return (levels[level],)
        logits = network.classifier(list(levels.values())[-1])
        return levels[level], jax.nn.softmax(logits)

    def run(variables: Any, images: jax.Array) -> tuple[jax.Array, ...]:
        if preprocessing:
            images = view(images)
        found: Any = module.apply(variables, images, method=outputs)
        return found

    return Program(
        run,
        encoder.variables,
        (height, width, encoder.config["channels"]),
        jnp.uint8 if preprocessing else jnp.float32,
        (level, "probabilities") if module.classifier is not None else (level,),
    )


def _view(size: int) -> Callable[[jax.Array], jax.Array]:
    return lambda images: augment.center(augment.to_float(images), size=size)


def _plain_view(height: int, width: int, size: int) -> Callable[[jax.Array], jax.Array]:
    """`augment.center` of uint8 images of this size."""
    if height == width == size:
        return lambda images: images.astype(jnp.float32) / 255
    side = max(1, round(0.875 * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    # Resizing is linear: the resized unit vectors are the columns of its matrix.
    unit = jnp.eye(side)
    weights = np.asarray(
        jax.image.resize(
            unit, (size, side), "cubic", precision=jax.lax.Precision.HIGHEST
        )
    )

    def view(images: jax.Array) -> jax.Array:
        images = images.astype(jnp.float32) / 255
        window = images[:, top : top + side, left : left + side]
        tall = jnp.einsum("sh,bhwc->bswc", weights, window)
        return jnp.clip(jnp.einsum("tw,bswc->bstc", weights, tall), 0, 1)

    return view
