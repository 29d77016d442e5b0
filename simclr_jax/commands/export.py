"""Command `export`: the encoder in another format."""

import argparse
import sys

from simclr_jax.commands import arguments
from simclr_jax.errors import RequestError, install

_ABOUT = """\
Writes the encoder of a run for other programs.

  python launch.py export runs/photos encoder.onnx --format=onnx

  safetensors  weights and description, for simclr_jax.load
  torch        weights under torchvision's names, for load_state_dict (safetensors)
  onnx         a program for ONNX Runtime; input `images`, output `h`
  jax          a program for jax.export.deserialize, on CPU and CUDA

A program takes any number of images: uint8 [B, H, W, C] of the size in which the run
stored them or, with --no_preprocessing, floats in [0, 1] of the size that the network
sees. Of a network with a classifier it also gives `probabilities`."""
_FORMATS = ("safetensors", "torch", "onnx", "jax")


def parser() -> arguments.Parser:
    made = arguments.Parser("export", _ABOUT)
    made.add_argument("file", metavar="FILE", help="the file to write")
    made.add_argument(
        "--format", default="safetensors", choices=_FORMATS, help="see above"
    )
    made.add_argument("--level", default="h", help="h, head_1, ... or z (default: h)")
    made.add_argument(
        "--no_preprocessing", action="store_true", help="the program takes floats"
    )
    made.takes_network("pretrain")
    return made


def run(flags: argparse.Namespace) -> None:
    """Writes the file and says where it is."""
    from simclr_jax.export import formats, torch

    form = flags.format
    arguments.check_out(flags.file)
    if not formats.FORMATS[form].program and (
        flags.no_preprocessing or flags.level != "h"
    ):
        raise RequestError(
            f"--format: {form} holds weights; --level and --no_preprocessing are for "
            "the programs onnx and jax"
        )
    if package := formats.missing(form):
        extra = "demo" if package == "safetensors" else "export"
        raise RequestError(
            f"--format: {form} needs the package {package}; {install(extra)}"
        )
    encoder = arguments.load(flags)
    arguments.say_network(encoder)
    with arguments.one_line_errors("RUN"):
        formats.save(
            flags.file,
            encoder,
            form,
            level=flags.level,
            preprocessing=not flags.no_preprocessing,
        )
    print(f"encoder: {flags.file}")
    if form == "torch" and (what := torch.differs(encoder)):
        print(what, file=sys.stderr)
