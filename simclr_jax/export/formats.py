"""All formats in which an encoder can leave, by name."""

import importlib.util
import os
from typing import Any, NamedTuple

import jax

from simclr_jax.export import onnx, safetensors, stablehlo, torch


class Format(NamedTuple):
    """One format.

    Attributes:
      file: the name of stage `export`'s file.
      about: what it is for, in a few words.
      needs: packages, by the names by which they are imported.
      program: whether it holds a program, and not weights alone. Then there are
        `level` and `preprocessing`.
      sk: whether networks with selective kernels are possible.
    """

    file: str
    about: str
    needs: tuple[str, ...]
    program: bool = False
    sk: bool = True


_SAFETENSORS = ("safetensors",)
_ONNX = ("jax2onnx", "onnx", "onnxruntime")
FORMATS = {
    "safetensors": Format("encoder.safetensors", "for simclr_jax.load", _SAFETENSORS),
    "torch": Format(
        "torchvision.safetensors", "torchvision's names", _SAFETENSORS, sk=False
    ),
    "onnx": Format("encoder.onnx", "ONNX Runtime", _ONNX, program=True, sk=False),
    "jax": Format("encoder.jax", "jax.export", ("flatbuffers",), program=True),
}


def missing(form: str) -> str:
    """The package that a format needs and that is not installed; "" if none."""
    needs = FORMATS[form].needs
    return next((name for name in needs if importlib.util.find_spec(name) is None), "")


def save(
    path: str | os.PathLike,
    encoder: Any,
    form: str,
    *,
    level: str = "h",
    preprocessing: bool = True,
) -> None:
    """Writes an encoder into a file.

    Args:
      path: of the file; an older one is replaced.
      encoder: as `simclr_jax.load` gives it.
      form: one of `FORMATS`.
      level, preprocessing: of programs; see `program.program`.

    Raises:
      ValueError: the format can't hold this network, or there is no such level.
      FailedError: the converted program computes something else.
      OSError: it can't be written.
    """
    if form == "safetensors":
        safetensors.save(path, encoder.config, jax.device_get(encoder.variables))
    elif form == "torch":
        torch.save(path, encoder)
    else:
        module = onnx if form == "onnx" else stablehlo
        module.save(path, encoder, level=level, preprocessing=preprocessing)
