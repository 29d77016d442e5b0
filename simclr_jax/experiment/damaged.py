"""Writes damaged.txt: the image files that a run leaves out, and why."""

import sys
from collections.abc import Mapping
from pathlib import Path

from simclr_jax import processes
from simclr_jax.files import replace

NAME = "damaged.txt"
# One file is one line, whatever its name.
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


@processes.first_only
def write(workdir: Path, files: Mapping[str, str]) -> None:
    """Writes one line for each file: its path, a tab, the reason; and says where.

    Without damaged files there is no damaged.txt: one of an earlier run goes.

    Args:
      workdir: of the run, open.
      files: whole path -> why it can't be read.
    """
    path = workdir / NAME
    if not files:
        path.unlink(missing_ok=True)
        return
    lines = (f"{file.translate(_ESCAPES)}\t{why}\n" for file, why in files.items())
    replace(path, "".join(lines))
    all_of_them = f"the damaged file is named in {path}"
    if len(files) > 1:
        all_of_them = f"all {len(files):,} damaged files are named in {path}"
    print(f"  {all_of_them}", file=sys.stderr, flush=True)


@processes.agreed
def count(workdir: Path) -> int:
    """How many files the newest run of a workdir has left out."""
    try:
        return (workdir / NAME).read_bytes().count(b"\n")
    except OSError:
        return 0
