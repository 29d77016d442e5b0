"""An encoder as an ONNX model, by jax2onnx, for ONNX Runtime and what else reads it.

    session = onnxruntime.InferenceSession("encoder.onnx")
    (h,) = session.run(["h"], {"images": images})  # any number of images

The input `images` is [B, H, W, C], as everywhere here. The model computes in float32,
also that of a run in bfloat16. Its metadata describe the network, as in
`encoder.safetensors`.
"""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from simclr_jax.errors import FailedError
from simclr_jax.export.program import Program, program
from simclr_jax.files import replacing

_MOST_BYTES = 2_000_000_000  # of a protobuf, less what is not weights
# Largest difference from jax, in units of the outputs' spread, that counts as equal.
TOLERANCE = 1e-4


def save(
    path: str | os.PathLike,
    encoder: Any,
    *,
    level: str = "h",
    preprocessing: bool = True,
) -> None:
    """Writes the model, once ONNX Runtime has computed what jax does.

    Args:
      path: of the file; an older one is replaced.
      encoder: as `simclr_jax.load` gives it.
      level, preprocessing: see `program.program`. The outputs are named as the level,
        and "probabilities" of a network with a classifier.

    Raises:
      ValueError: no such level, or a network that the converter or the format can't do.
      FailedError: the converted model computes something else.
      OSError: it can't be written.
    """
    if encoder.module.encoder.sk:
        raise ValueError("jax2onnx can't convert a network with selective kernels")
    weights = sum(x.nbytes for x in jax.tree.leaves(encoder.variables))
    if weights > _MOST_BYTES:
        raise ValueError(
            f"an ONNX file holds 2 GB, and the weights take {weights / 1e9:.1f} GB"
        )
    made = program(encoder, level=level, preprocessing=preprocessing, plain=True)
    with _quiet():
        from jax2onnx import to_onnx  # type: ignore[import-not-found]

        model: Any = to_onnx(
            made.whole,
            [jax.ShapeDtypeStruct(("B", *made.shape), made.dtype)],  # type: ignore
            model_name="encoder",
            input_names=["images"],
            output_names=list(made.outputs),
        )
    # jax2onnx moves transpositions and keeps the shapes from before.
    del model.graph.value_info[:]
    for name, value in encoder.config.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    content = model.SerializeToString()
    _check(content, made)
    with replacing(path) as file:
        file.write(content)


def _check(content: bytes, made: Program) -> None:
    """Raises FailedError unless the model computes what the program does."""
    import onnxruntime  # type: ignore[import-not-found]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (3, *made.shape), np.uint8)
    given = images if made.dtype == np.uint8 else images / np.float32(255)
    found = session.run(list(made.outputs), {"images": given})
    # The weights as an argument: with constants XLA folds much, and its fusion on a CPU
    # (startup.py) has got the softmax of folded logits wrong.
    wanted = map(np.asarray, jax.jit(made.run)(made.variables, given))
    for name, theirs, ours in zip(made.outputs, found, wanted, strict=True):
        difference = np.abs(np.asarray(theirs) - ours).max()
        # Weights may be such that all images have the same features.
        spread = max(float(ours.std()), float(np.abs(ours).max()) * 1e-3)
        if not difference <= TOLERANCE * spread:
            raise FailedError(
                f"the ONNX model's {name} differs from jax's by {difference:.2g}, and "
                f"its numbers vary by {spread:.2g}; no file was written"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what jax2onnx prints of layers and logs of other versions of jax."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        nowhere = contextlib.redirect_stdout(io.StringIO())
        with nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
