"""Arrays and .npz files that are not what they should be."""

import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.images import EITHER, SAID, flipped
from benchmarks.faults.lab import Kind, Lab, Wrong, last_line


def _arrays(lab: Lab) -> dict[str, Any]:
    with np.load(lab.npz) as file:
        return {name: file[name] for name in file}


def _changed(lab: Lab, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Arrays of which one is not what it should be."""
    arrays = _arrays(lab)
    name = rng.choice(sorted(arrays))
    x = arrays[name]
    changes: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "empty": lambda: x[:0],
        "shorter": lambda: x[: rng.randrange(1, len(x))],
        "one more axis": lambda: x[None],
        "one axis less": lambda: x[0],
        "a number": lambda: np.float64(3),
        "objects": lambda: np.array([{}, None], object),
        "text": lambda: np.array(["a"] * len(x)),
        "float16": lambda: x.astype(np.float16),
        "complex": lambda: x.astype(np.complex64),
        "negative": lambda: -x.astype(np.int64) - 1,
        "huge": lambda: x.astype(np.int64) + 2**40,
        "unsigned": lambda: x.astype(np.uint64) + np.uint64(2**63),
        "bool": lambda: x.astype(bool),
        "dates": lambda: x.astype("datetime64[s]"),
        "five channels": lambda: np.repeat(x[..., :1], 5, -1) if x.ndim > 1 else x[:5],
        "Fortran's order": lambda: np.asfortranarray(x),
        "other byte order": lambda: x.astype(x.dtype.newbyteorder(">")),
    }
    how = rng.choice(sorted(changes))
    changed = changes[how]()
    kept = {key: value for key, value in arrays.items() if key != name}
    return f"{name}: {how}", kept if changed is None else kept | {name: changed}


def npz(lab: Lab, rng: random.Random, folder: Path, count: int) -> str:
    path = folder / "x.npz"
    how = ("changed", "changed", "flipped", "cut", "zip", "place")[count % 6]
    if how == "changed":
        how, arrays = _changed(lab, rng)
        np.savez(path, **arrays)
    elif how == "flipped":
        path.write_bytes(flipped(rng, lab.npz.read_bytes()))
    elif how == "cut":
        content = lab.npz.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content))])
    elif how == "zip":
        how = _zipped(lab, rng, path)
    else:
        how = rng.choice(("a pipe", "a folder", "/dev/zero", "nothing", "a pickle"))
        if how == "a pipe":
            os.mkfifo(path)
        elif how == "a folder":
            path.mkdir()
        elif how == "/dev/zero":
            path.symlink_to(how)
        elif how == "a pickle":
            shutil.copy(_pickle(folder), path)
    flags = [lab.flags()[0], f"--config.data.path={path}"]
    flags.append("--config.stages=pretrain,knn,probe")
    done = lab.request(*flags, workdir=folder / "run", run=False).require(*EITHER)
    if done.code == 2 and not any(x in done.stderr for x in (str(path), "config.")):
        raise Wrong(f"the line names no file and no field; {done.tail()}")
    return f"{how}: {done.code} {last_line(done)}"


def _zipped(lab: Lab, rng: random.Random, path: Path) -> str:
    """A member's header says what is not so, or its name is another."""
    how = rng.choice(("a wrong header", "no suffix", "twice", "no array"))
    with zipfile.ZipFile(lab.npz) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name != "train_images.npy":
                new.writestr(name, content)
            elif how == "a wrong header":
                new.writestr(name, content.replace(b"(64, ", b"(9999999999, ", 1))
            elif how == "no suffix":
                new.writestr("train_images", content)
            elif how == "no array":
                new.writestr(name, b"hello")
            else:
                new.writestr(name, content)
                new.writestr("train_images.npy.npy", content)
    return f"train_images: {how}"


def _pickle(folder: Path) -> Path:
    path = folder / "x.pickle"
    path.write_bytes(pickle.dumps({"train_images": [1, 2]}))
    return path


KINDS = (
    Kind("npz", f"a file or an array that is not what it should be: {SAID}", 60, npz),
)
