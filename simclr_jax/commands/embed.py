"""Command `embed`: the features of images."""

import argparse

from simclr_jax.commands import arguments
from simclr_jax.errors import RequestError, install

_ABOUT = """\
Writes the features of images: h [N, D], file and label (-1: none).

  python launch.py embed runs/photos PHOTOS
  python launch.py embed runs/photos/encoder.safetensors PHOTOS --out=photos.parquet

File names are relative to the folder, and class folders give the labels. An .npz also
has class_names. Both formats have `about`: the network and the images, as JSON."""


def parser() -> arguments.Parser:
    made = arguments.Parser("embed", _ABOUT)
    made.takes_images()
    made.add_argument(
        "--out",
        default="embeddings.npz",
        metavar="FILE",
        help="an .npz, or Parquet if it ends in .parquet (default: embeddings.npz)",
    )
    made.add_argument("--level", default="h", help="h, head_1, ... or z (default: h)")
    made.takes_network("pretrain")
    return made


def run(flags: argparse.Namespace) -> None:
    """Writes the file and says where it is."""
    import numpy as np

    from simclr_jax.export import embeddings

    arguments.check_out(flags.out)
    form = embeddings.format_of(flags.out)
    if package := embeddings.missing(form):
        raise RequestError(
            f"--out: {form} needs the package {package}; {install('export')}, or write "
            "an .npz"
        )
    encoder = arguments.load(flags)
    arguments.say_network(encoder)
    if flags.level not in encoder.levels:
        raise RequestError(
            f"--level: {flags.level!r} is not one of {', '.join(encoder.levels)}"
        )
    given = arguments.read_images(flags)
    encoder = arguments.with_bits(encoder, given.bits)
    with arguments.one_line_errors("IMAGES"):
        pieces = embeddings.in_pieces(
            lambda images: encoder.embed(images, flags.level, flags.batch_size),
            given.images,
            flags.batch_size,
            embeddings.Progress("embedding", len(given.files)),
        )
    columns = {
        "h": np.concatenate(pieces),
        "file": np.array(given.files),
        "label": given.labels,
    }
    about = {"images": flags.images, "class_names": list(given.class_names)}
    about |= {"level": flags.level, "encoder": encoder.config}
    if form == "npz":
        columns["class_names"] = np.array(given.class_names, str)
    embeddings.write(flags.out, columns, about)
    shape = " x ".join(map(str, columns["h"].shape))
    print(f"embeddings: {flags.out} ({shape})")
