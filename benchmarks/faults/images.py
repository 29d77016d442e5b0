"""Image files that a stranger might hand over, each among good ones."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from PIL import Image

from benchmarks.faults.lab import Kind, Lab, Wrong, last_line


def _encoded(
    kind: str, mode: str = "RGB", size: tuple = (24, 20), **options: Any
) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).convert(mode).save(file, kind, **options)
        return file.getvalue()


def _png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, and that has one row."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body))
            + name
            + body
            + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (3 * min(width, 100) + 1))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


GOOD, BAD, EITHER = (75,), (2,), (2, 75)
# What is in a file x.jpg or x.png, and whether the run may go on with it.
IMAGES: dict[str, tuple[Callable[[random.Random], bytes], tuple[int, ...]]] = {
    "empty": (lambda rng: b"", BAD),
    "text": (lambda rng: b"<html>not found</html>", BAD),
    "zeros": (lambda rng: bytes(3000), BAD),
    "PostScript": (
        lambda rng: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        BAD,
    ),
    "claims 60000 x 60000": (lambda rng: _png_of(60000, 60000), BAD),
    "claims 0 x 5": (lambda rng: _png_of(0, 5), BAD),
    "cut JPEG": (lambda rng: _encoded("JPEG")[: rng.randrange(1, 600)], BAD),
    "cut PNG": (lambda rng: _encoded("PNG")[: rng.randrange(1, 1200)], BAD),
    "flipped JPEG": (lambda rng: flipped(rng, _encoded("JPEG")), EITHER),
    "flipped PNG": (lambda rng: flipped(rng, _encoded("PNG")), EITHER),
    "random bytes": (lambda rng: rng.randbytes(2000), BAD),
    "CMYK": (lambda rng: _encoded("JPEG", "CMYK"), GOOD),
    "palette": (lambda rng: _encoded("PNG", "P"), GOOD),
    "transparent": (lambda rng: _encoded("PNG", "RGBA"), GOOD),
    "one bit": (lambda rng: _encoded("PNG", "1"), GOOD),
    "GIF named so": (lambda rng: _encoded("GIF"), EITHER),
    "one pixel": (lambda rng: _encoded("PNG", size=(1, 1)), GOOD),
    "1 x 3000": (lambda rng: _encoded("PNG", size=(1, 3000)), GOOD),
    "interlaced": (lambda rng: _encoded("JPEG", progressive=True), GOOD),
}
PLACES = ("a pipe", "a folder", "a link to itself", "a device")


def image(lab: Lab, rng: random.Random, folder: Path, count: int) -> str:
    photos = folder / "photos"
    names = [*IMAGES, *PLACES]
    name, ending = names[count % len(names)], rng.choice([".jpg", ".png", ".JPEG"])
    pixels, labels = tiny.squares(48, 0)
    for k, (square, label) in enumerate(zip(pixels, labels, strict=True)):
        place = photos / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(square).save(place / f"{k}.png")
    path, allowed = photos / "class1" / f"x{ending}", EITHER
    if name in IMAGES:
        make, allowed = IMAGES[name]
        path.write_bytes(make(rng))
    elif name == "a pipe":
        os.mkfifo(path)
    elif name == "a folder":
        path.mkdir()
    else:
        path.symlink_to(path if name == "a link to itself" else "/dev/zero")
    flags = [
        lab.flags()[0],
        "--config.data.name=folder",
        f"--config.data.path={photos}",
    ]
    flags += ["--config.data.stored_size=16", "--config.stages=pretrain,knn"]
    done = lab.request(*flags, workdir=folder / "run", run=False).require(*allowed)
    if done.code == 2 and path.name not in done.stderr:
        raise Wrong(f"the line does not name {path.name}; {done.tail()}")
    return f"{name}: {done.code} {last_line(done)}"


SAID = "exit code 2 and one line that names it, or a run that goes on"
KINDS = (Kind("images", f"one bad image among good ones: {SAID}", 2 * 23, image),)
