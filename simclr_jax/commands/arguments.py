"""What the commands share: their flags, the network, the images, one-line errors."""

import argparse
import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from simclr_jax.errors import DataError, RequestError, install, refused

if TYPE_CHECKING:
    from simclr_jax.data.given import Given
    from simclr_jax.pretrained import Encoder


class Parser(argparse.ArgumentParser):
    """The flags of a command. A wrong one is a RequestError."""

    def __init__(self, name: str, about: str):
        super().__init__(
            f"python launch.py {name}",
            description=about,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("run", metavar="RUN", help="a workdir or an encoder's file")

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; {self.prog} --help shows what it takes")

    def takes_images(self) -> None:
        """The images, and how to read them."""
        self.add_argument(
            "images",
            metavar="IMAGES",
            help="a folder (flat, or with class folders), an image file, or an .npz "
            "with `images`",
        )
        self.add_argument(
            "--skip_damaged",
            type=_number(0),
            default=0,
            metavar="N",
            help="leave out up to N damaged files (default: 0)",
        )
        self.add_argument(
            "--batch_size",
            type=_number(1),
            default=256,
            metavar="N",
            help="images in one forward pass (default: 256)",
        )

    def takes_network(self, stage: str) -> None:
        """Which of a run's networks.

        Args:
          stage: the default, as the help says it.
        """
        for name, kind, text in (
            ("stage", str, f"the stage that trained it (default: {stage})"),
            ("variant", str, "which of the stage's networks (default: the main one)"),
            ("step", _number(0), "which of its checkpoints (default: the newest)"),
        ):
            default = None if name == "step" else ""
            self.add_argument(f"--{name}", type=kind, default=default, help=text)


def _number(least: int) -> Any:
    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number of at least {least}"
            )
        return int(text)

    return number


def load(flags: argparse.Namespace) -> "Encoder":
    """The network that the flags name."""
    from simclr_jax import pretrained  # jax: not for --help

    given = {"stage": flags.stage, "variant": flags.variant, "step": flags.step}
    options = {name: x for name, x in given.items() if x not in ("", None)}
    with one_line_errors("RUN"):
        return pretrained.load(flags.run, **options)


def say_network(encoder: "Encoder") -> None:
    """Says on stderr which network it is."""
    about = encoder.config
    variant = f" ({about['variant']})" if about["variant"] else ""
    print(
        f"network: stage {about['stage']}{variant}, step {about['step']}",
        file=sys.stderr,
        flush=True,
    )


def with_bits(encoder: "Encoder", bits: int) -> "Encoder":
    """The encoder, told how to read greyscale files of more than 8 bits.

    What its run has stored goes first, because it was trained so.

    Args:
      bits: as the folder's files have them.
    """
    preprocessing = encoder.config["preprocessing"]
    bits = preprocessing.get("bits", 0) or bits
    about = encoder.config | {"preprocessing": preprocessing | {"bits": bits}}
    return dataclasses.replace(encoder, config=about)


def read_images(flags: argparse.Namespace) -> "Given":
    """The images that the flags name; says on stderr what a folder holds."""
    from simclr_jax.data import given
    from simclr_jax.data.damage import listed

    with one_line_errors("IMAGES"):
        found = given.read(flags.images, flags.skip_damaged)
    for line in (*found.found, *listed(found.damaged)):
        print(line, file=sys.stderr, flush=True)
    return found


def check_out(path: str) -> None:
    """Raises RequestError if a file of this name can't be written."""
    if why := refused(path):
        raise RequestError(f"can't use {path}: {why}")
    folder = Path(path).expanduser().parent
    if not folder.is_dir():
        raise RequestError(f"{path}: there is no folder {folder}; make it first")
    if Path(path).expanduser().is_dir():
        raise RequestError(f"{path}: it is a folder; give a file's name")


@contextlib.contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Turns what the library raises into a RequestError, and shows its warnings in one
    line each.

    Args:
      name: of the argument that is to blame, as the help calls it.
    """
    show = warnings.showwarning
    warnings.showwarning = lambda message, *_: print(
        f"warning: {message}", file=sys.stderr, flush=True
    )
    try:
        yield
    except DataError as error:
        advice = error.message.replace("`skip_damaged`", "--skip_damaged")
        raise RequestError(f"{name}: {advice}") from error
    except ImportError as error:
        raise RequestError(
            f"{name}: the package {error.name} is missing; {install('demo')}"
        ) from error
    except (FileNotFoundError, ValueError) as error:
        raise RequestError(f"{name}: {error}") from error
    finally:
        warnings.showwarning = show
