"""An encoder as a program of jax for CPU and CUDA, which needs nothing of ours.

    program = jax.export.deserialize(Path("encoder.jax").read_bytes())
    h, *probabilities = program.call(images)  # any number of images

jax keeps such files readable for six months at least; see its page on jax.export.
"""

import os
from typing import Any

import jax
from jax import export

from simclr_jax.export.program import program
from simclr_jax.files import replacing

PLATFORMS = ("cpu", "cuda")


def save(
    path: str | os.PathLike,
    encoder: Any,
    *,
    level: str = "h",
    preprocessing: bool = True,
) -> None:
    """Writes the program; the number of images stays open, the weights are inside.

    Args:
      path: of the file; an older one is replaced.
      encoder: as `simclr_jax.load` gives it.
      level, preprocessing: see `program.program`.

    Raises:
      ValueError: no such level.
      OSError: it can't be written.
    """
    made = program(encoder, level=level, preprocessing=preprocessing)
    (count,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, *made.shape), made.dtype)
    exported = export.export(jax.jit(made.whole), platforms=PLATFORMS)(images)
    with replacing(path) as file:
        file.write(exported.serialize())
