"""Command `predict`: the classes of images."""

import argparse
import csv
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclr_jax.commands import arguments
from simclr_jax.errors import RequestError, refused

if TYPE_CHECKING:
    from simclr_jax.pretrained import Encoder

# The stages whose network classifies, the first choice first.
_STAGES = ("finetune", "probe", "supervised", "distill")
_ABOUT = """\
Names the class of each image, by a network that was trained on labels.

  python launch.py predict runs/photos NEW_PHOTOS --out=classes.csv

Writes CSV: file, class, probability, and p_CLASS for each class. File names are
relative to the folder."""


def parser() -> arguments.Parser:
    made = arguments.Parser("predict", _ABOUT)
    made.takes_images()
    made.add_argument(
        "--out", default="", metavar="FILE", help="a .csv (default: to stdout)"
    )
    made.takes_network("finetune, else probe, supervised or distill")
    return made


def run(flags: argparse.Namespace) -> None:
    """Writes the table; says on stderr by which network."""
    import numpy as np

    from simclr_jax.export import embeddings

    if flags.out:
        arguments.check_out(flags.out)
    encoder = _classifier(flags)
    given = arguments.read_images(flags)
    encoder = arguments.with_bits(encoder, given.bits)
    with arguments.one_line_errors("IMAGES"):
        pieces = embeddings.in_pieces(
            lambda images: encoder.predict(images, flags.batch_size),
            given.images,
            flags.batch_size,
            embeddings.Progress("predicting", len(given.files)),
        )
    names, probabilities = map(np.concatenate, zip(*pieces, strict=True))
    table = _table(
        embeddings.text(given.files), names, probabilities, encoder.class_names
    )
    if not flags.out:
        sys.stdout.write(table)
        return
    path = Path(flags.out).expanduser()
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(table, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)
    print(f"classes: {flags.out} ({len(names):,} images)")


def _classifier(flags: argparse.Namespace) -> "Encoder":
    """The network of the first stage that has one, unless the flags name one."""
    from simclr_jax import pretrained

    folder = not refused(flags.run) and Path(flags.run).expanduser().is_dir()
    if flags.stage or not folder:
        encoder = arguments.load(flags)
    else:
        encoder = None
        for stage in _STAGES:
            options = {"variant": flags.variant, "step": flags.step}
            with arguments.one_line_errors("RUN"):
                try:
                    encoder = pretrained.load(flags.run, stage=stage, **options)
                    break
                except FileNotFoundError:
                    continue
        if encoder is None:
            raise RequestError(
                f"RUN: no stage in {flags.run} has trained a classifier; looked for "
                f"{', '.join(_STAGES)}"
            )
    if encoder.module.classifier is None:
        raise RequestError(
            f"RUN: the network of {flags.run} has no classifier; name a stage that "
            "trained on labels, as --stage=finetune"
        )
    arguments.say_network(encoder)
    return encoder


def _table(
    files: list[str], names: Any, probabilities: Any, classes: tuple[str, ...]
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", "probability", *(f"p_{x}" for x in classes)])
    for file, name, row in zip(files, names, probabilities, strict=True):
        writer.writerow([file, name, *(f"{p:.6g}" for p in (row.max(), *row))])
    return text.getvalue()
