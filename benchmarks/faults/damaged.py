"""Checkpoints whose files change, or that a stranger wrote."""

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tiny

from benchmarks.faults.lab import Kind, Lab, Wrong
from simclr_jax import checkpoint, pretrained
from simclr_jax.checkpoint import sealed_folder
from simclr_jax.errors import RequestError, one_line

ITEMS = dict.fromkeys(("params", "model_state", "opt_state"))


def _steps(lab: Lab, rng: random.Random, folder: Path) -> tuple[Path, int]:
    """A copy of the checkpoints of a seeded training, and its newest step."""
    there = sorted(lab.whole.rglob("checkpoints"))
    copy = shutil.copytree(rng.choice(there), folder / "checkpoints")
    return copy, checkpoint.steps(copy)[-1]


def _file(rng: random.Random, step: Path) -> Path:
    return rng.choice(sorted(x for x in step.rglob("*") if x.is_file()))


def _must_be_noticed(steps: Path, newest: int, said: str) -> str:
    """The step is named and set aside for the one before; or refused, and kept."""
    older = [x for x in sealed_folder.numbers(steps) if x != newest]
    before = checkpoint.restore(steps, ITEMS, step=older[-1]) if older else None
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error):
            found = checkpoint.restore(steps, ITEMS)
    except RequestError as refusal:
        if older or f"step {newest} is damaged" not in str(refusal):
            raise Wrong(f"{said}: {refusal}") from refusal
        return said
    if found is None or before is None or found[0] != older[-1]:
        raise Wrong(f"{said}: goes unnoticed")
    if f"checkpoint step {newest} is damaged" not in error.getvalue():
        raise Wrong(f"{said}: is not named: {error.getvalue()}")
    jax.tree.map(np.testing.assert_array_equal, found[1], before[1])
    if not (steps / f"{newest}.damaged").exists():
        raise Wrong(f"{said}: is not set aside")
    return said


def flip(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    steps, newest = _steps(lab, rng, folder)
    path = _file(rng, steps / str(newest))
    content = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return _must_be_noticed(steps, newest, f"bit {bit} of {path.relative_to(steps)}")


def cut(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    steps, newest = _steps(lab, rng, folder)
    path = _file(rng, steps / str(newest))
    content = path.read_bytes()
    how = ("cut", "emptied", "longer", "deleted", "a pipe", "a folder")[number % 6]
    path.unlink()
    if how in ("cut", "emptied"):
        path.write_bytes(content[: rng.randrange(len(content)) if how == "cut" else 0])
    elif how == "longer":
        path.write_bytes(content + bytes(rng.randrange(1, 5000)))
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a folder":
        path.mkdir()
    return _must_be_noticed(steps, newest, f"{path.relative_to(steps)} is {how}")


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    """The path of every value within lists and dicts."""
    found = [path]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            found += _places(inner, (*path, key))
    return found


def _place(rng: random.Random, record: dict[str, Any]) -> tuple:
    """A part of the record, each as likely as another, and a value in there.

    Of the leaves only those that a reader of the network asks for.
    """
    part = rng.choice(sorted(record.keys() - {"format"}))
    found = [x for x in _places(record) if x[:1] == (part,)]
    unread = ("counters", "opt_state", "skipped")
    return rng.choice([x for x in found if len(x) < 2 or x[1] not in unread])


HOSTILE = (None, True, -1, 0, 2**63, 1e308, "", "../../x", [], {}, [[]], "a" * 5000)


def stranger(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """Some value of a record is another, and it is sealed again; all readers try it."""
    run = folder / "run"
    shutil.copytree(lab.whole / "checkpoints", run / "checkpoints")
    shutil.copy(lab.whole / "config.json", run)
    *older, newest = checkpoint.steps(run / "checkpoints")
    step = run / "checkpoints" / str(newest)
    for other in older if number % 2 else ():  # nothing to fall back to
        shutil.rmtree(step.with_name(str(other)))
    record = sealed_folder.read(step)
    where = _place(rng, record)
    node = record
    for key in where[:-1]:
        node = node[key]
    value = rng.choice(HOSTILE)
    if value is None and isinstance(node, dict):
        del node[where[-1]]
    else:
        node[where[-1]] = value
    body = {key: x for key, x in record.items() if key != "format"}
    (step / "digests.json").write_bytes(sealed_folder.seal(body))
    said = f"{'/'.join(map(str, where))} = {str(value)[:30]!r}"
    return f"{said}: {_load(run, said)}"


def _load(run: Path, said: str) -> str:
    """What `load` makes of it: an encoder that works, or an error that says why."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            encoder = pretrained.load(run)
    except (ValueError, RequestError, FileNotFoundError) as error:
        if len(str(error).splitlines()) != 1:
            raise Wrong(f"{said}: {type(error).__name__}: {error}") from error
        return one_line(error).replace(str(run), "RUN")[:100]
    except Exception as error:
        raise Wrong(f"{said}: {type(error).__name__}: {error}") from error
    text = errors.getvalue()
    if text.count("\n") > 1 or "Traceback" in text:
        raise Wrong(f"{said}: {text}")
    weights = jax.tree.leaves(encoder.variables)
    if not all(np.isfinite(x).all() for x in weights):
        raise Wrong(f"{said}: weights that are not finite")
    return "loaded"


_READ = """
import json, os, sys, time
import simclr_jax
run, ended = sys.argv[1:]
counts = {"loaded": 0, "none yet": 0}
while not os.path.exists(ended):
    time.sleep(0.01)
    try:
        simclr_jax.load(run)
        counts["loaded"] += 1
    except FileNotFoundError as error:
        counts["none yet"] += 1
        if counts["loaded"] or len(str(error).splitlines()) != 1:
            raise
print(json.dumps(counts))
"""


def read_meanwhile(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """A run that keeps one step and saves every step, while another process reads."""
    run, ended = folder / "run", folder / "ended"
    command = [sys.executable, "-c", _READ, str(run), str(ended)]
    reader = subprocess.Popen(
        command,
        cwd=tiny.ROOT,
        env=os.environ | tiny.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    flags = [*tiny.recipe(lab.npz), "--config.stages=pretrain", "--config.epochs=25"]
    flags += ["--config.checkpoint.every_steps=1", "--config.checkpoint.keep=1"]
    flags += ["--config.probe.every_epochs=0"]
    try:
        lab.launch(*flags, workdir=run).require(0)
    finally:
        ended.touch()
        out, err = reader.communicate()
    if reader.returncode or err or json.loads(out)["loaded"] < 10:
        raise Wrong(f"exit code {reader.returncode}, {out}, {err[-3000:]}")
    return out.strip()


NOTICED = "is named, and the step before is read; without one, it is refused"
KINDS = (
    Kind(
        "flips",
        f"a bit of any file of any checkpoint: the step {NOTICED}",
        120,
        flip,
        False,
    ),
    Kind(
        "cuts",
        f"a file cut, empty, longer, gone, no file: the step {NOTICED}",
        60,
        cut,
        False,
    ),
    Kind(
        "strangers",
        "a value of a record is another, and sealed again: read all the same, or one "
        "line that says why not",
        120,
        stranger,
        False,
    ),
    Kind(
        "readers",
        "steps deleted while another process reads: it reads the newest, silently",
        1,
        read_meanwhile,
        False,
    ),
)
