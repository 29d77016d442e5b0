"""Shows that the present code continues an older commit's runs with the same losses.

    python benchmarks/continue_old_runs.py --old=9695107
    python benchmarks/continue_old_runs.py --old=9695107 --methods=moco --keep=runs/old

For each method the old commit, in a temporary worktree, leaves three workdirs: one
stopped in pretraining (SIGTERM), one killed in fine-tuning (SIGKILL), one finished. The
old code continues a copy of each, the present code another. Both copies must then have
the same lines in metrics.jsonl, results in results.json and arrays in every checkpoint,
bit for bit; only clocks may differ. What the interrupted run had recorded up to its
checkpoint must still be there with its clocks, else the run was begun anew. Of the
finished workdir nothing may change. All runs share one compilation cache.

Prints a line per method and workdir, with the first difference if there is one; exit
code 0 if all are equal, else 1. Takes 11 minutes of CPU time for three methods. With
`--keep=DIR` the workdirs stay there, and those of the old code are not made again: 3
minutes. DIR holds on one machine with one jax only.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
STAGES = ("pretrain", "knn", "probe", "finetune", "supervised", "distill")
CLOCKS = ("seconds", "images_per_second")
TRIES = 5  # a run may end before the signal reaches it

# Only fields that the old commit has too: both versions read it.
RECIPE = """
from pathlib import Path

from configs import common


def get_config(method):
    config = common.get_config()
    config.method.name = method
    config.data.name = "npz"
    config.data.path = str(Path(__file__).with_name("squares.npz"))
    config.encoder.update(depth=10, width=0.0625, stem="cifar")
    config.batch_size = 16
    config.epochs = 5  # 20 steps
    config.log_every = 1
    config.checkpoint.every_steps = 3
    config.augment.size = 16
    for stage in ("finetune", "supervised", "distill"):
        config[stage].update(batch_size=16, epochs=4)
        config[stage].augment.size = 16
    config.finetune.label_fraction = 0.5  # 8 steps
    config.probe.update(batch_size=16, epochs=4, every_epochs=2)
    config.knn.k = 5
    if method == "simclr":
        config.stages += ("distill",)
        config.finetune.from_layer = 1
        config.distill.update(label_weight=0.5, label_batch_size=8)
    elif method == "moco":
        config.method.update(queue_size=64, bn_groups=2)
        config.optimizer = common.optimizer("sgd", 0.03, schedule="step")
        config.probe.target = True
    elif method == "byol":
        config.predictor.hidden = 16
        config.optimizer = common.optimizer("lars", 0.1, schedule="cosine")
    return config
"""


class Unequal(Exception):
    """The two versions do not do the same; the message says where."""


class Stop(NamedTuple):
    """The signal that ends a run once this step is on record."""

    stage: str
    step: int
    number: signal.Signals

    def due(self, workdir: Path) -> bool:
        found = [x["step"] for x in lines(workdir) if x["stage"] == self.stage]
        return max(found, default=0) >= self.step


STATES = {
    "pretraining": Stop("pretrain", 9, signal.SIGTERM),
    "fine-tuning": Stop("finetune", 5, signal.SIGKILL),
    "finished": None,
}


def write_data(path: Path) -> None:
    """Noisy 16x16 images whose class is the colour of a square somewhere in them."""
    arrays = {}
    colours = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220], [200, 200, 40]])
    for seed, (split, count) in enumerate((("train", 64), ("test", 40))):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 4
        images = rng.integers(0, 60, (count, 16, 16, 3))
        for image, label in zip(images, labels, strict=True):
            y, x = rng.integers(0, 8, 2)
            image[y : y + 8, x : x + 8] = colours[label]
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.int32)
    np.savez(path, **arrays)


def prepare(folder: Path, made_by: dict[str, Any]) -> None:
    """Writes data and recipe; refuses a folder that something else was made in."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "made_by.json"
    if note.exists() and json.loads(note.read_text()) != made_by:
        sys.exit(f"error: {note} says that this is not the same; take another --keep")
    write_data(folder / "squares.npz")
    (folder / "recipe.py").write_text(RECIPE)
    note.write_text(json.dumps(made_by, indent=2) + "\n")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def describe(folder: Path) -> str | None:
    """The commit as results.json has it; None outside of a checkout."""
    words = ("describe", "--always", "--dirty=+dirty", "--abbrev=12")
    return git(folder, *words) if (folder / ".git").exists() else None


def lines(workdir: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl: a kill may leave half of one."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]


def results(workdir: Path) -> dict[str, Any]:
    path = workdir / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def digests(workdir: Path) -> list[Path]:
    """The record of every whole checkpoint: a kill may leave a `9.tmp`."""
    found = workdir.glob("**/checkpoints/*/digests.json")
    return sorted(path for path in found if path.parent.name.isdigit())


def kept(workdir: Path) -> list[dict[str, Any]]:
    """The lines up to the newest checkpoint of their training: they are not redone."""

    def saved(line: dict[str, Any]) -> int:
        folder = workdir
        if line["stage"] != "pretrain":
            folder = workdir / "stages" / line["stage"] / line["variant"]
        mine = [x for x in digests(folder) if x.parents[2] == folder]
        return max((int(path.parent.name) for path in mine), default=0)

    return [line for line in lines(workdir) if line["step"] <= saved(line)]


def launch(
    checkout: Path, workdir: Path, method: str, stop: Stop | None = None
) -> tuple[int, str]:
    """(exit code, output) of launch.py; the recipe is three folders above workdir."""
    flags = [f"--config={workdir.parents[2]}/recipe.py:{method}"]
    command = [sys.executable, checkout / "launch.py", *flags, f"--workdir={workdir}"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=checkout, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                if stop and stop.due(workdir):
                    process.send_signal(stop.number)
                    stop = None
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        return process.returncode, output.read()


def make(old: Path, workdir: Path, method: str, stop: Stop | None) -> None:
    """Has the old code leave a workdir, finished or not."""
    part = workdir.with_name("part")
    for _ in range(TRIES):
        shutil.rmtree(part, ignore_errors=True)
        code, output = launch(old, part, method, stop)
        if code not in (0, *((75, -signal.SIGKILL) if stop else ())):
            raise Unequal(
                f"the old code's run: exit code {code}: {output.splitlines()[-1:]}"
            )
        begun = stop and any(line["stage"] == stop.stage for line in kept(part))
        if not stop or (begun and stop.stage not in results(part)):
            part.rename(workdir)
            return
    raise Unequal(f"{TRIES} runs of the old code ended before they were stopped")


def proceed(checkout: Path, made: Path, workdir: Path, method: str) -> None:
    """Has a checkout continue a copy of a workdir and looks whether it did."""
    part, who = workdir.with_name("part"), f"the {workdir.name} code"
    for folder in (part, workdir):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, part)
    code, output = launch(checkout, part, method)
    if code:
        raise Unequal(f"{who}: exit code {code}: {output.splitlines()[-1:]}")
    before = kept(made)
    if lines(part)[: len(before)] != before:
        raise Unequal(f"{who} began anew what a checkpoint had")
    if made.parent.name == "finished":
        if "done already" not in output:
            raise Unequal(f"{who} does not say that everything is done already")
        for path in (made / "metrics.jsonl", made / "results.json", *digests(made)):
            copy = part / path.relative_to(made)
            if not copy.exists() or path.read_bytes() != copy.read_bytes():
                raise Unequal(
                    f"{who} changed a finished workdir's {path.relative_to(made)}"
                )
    elif results(part).get("commit") != describe(checkout):
        raise Unequal(f"{who} is not what ran, or it changed meanwhile")
    part.rename(workdir)


def record(workdir: Path) -> dict[str, Any]:
    """All that must be equal, in the order in which it came about."""
    found: dict[str, Any] = {
        f"metrics.jsonl:{number}, {x['stage']} {x['variant'] or 'step'} {x['step']}": x
        for number, x in enumerate(lines(workdir), 1)
    }
    values = results(workdir)
    found["results.json"] = {name: values[name] for name in STAGES if name in values}
    for path in digests(workdir):
        leaves = json.loads(path.read_text())["record"]["leaves"]
        found[str(path.parent.relative_to(workdir))] = leaves
    return found


def difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first one in two records, clocks apart; floats by all their digits."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        old, new = json.dumps(old), json.dumps(new)
        return None if old == new else f"{where}: {old} by the old code, {new} now"
    for name in old | new:
        here = f"{where}, {name}".lstrip(", ")
        if name in CLOCKS:
            continue
        if name not in old or name not in new:
            return f"{here}: only by the {'old' if name in old else 'present'} code"
        if found := difference(old[name], new[name], here):
            return found
    return None


def check(place: Path, method: str, old: Path, new: Path) -> bool:
    """Makes what is missing, compares, prints the line; whether all is equal."""
    made, by_old, by_new = (place / name for name in ("made", "old", "present"))
    words, stop = place.name, STATES[place.name]
    try:
        if not made.exists():
            make(old, made, method, stop)
        if stop:
            words = f"interrupted in {words} at step {lines(made)[-1]['step']}"
        if not by_old.exists():
            proceed(old, made, by_old, method)
        proceed(new, made, by_new, method)
        found = difference(record(by_old), record(by_new))
    except Unequal as error:
        found = str(error)
    counts = f"{len(lines(by_new))} lines, {len(digests(by_new))} checkpoints"
    verdict = f"DIFFERENT: {found}" if found else f"{counts}, equal"
    print(f"{method}  {words}: {verdict}", flush=True)
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--old", required=True, help="the commit that makes workdirs")
    parser.add_argument("--new", type=Path, default=ROOT, help="the present code")
    parser.add_argument("--methods", default="simclr,moco,byol")
    parser.add_argument("--keep", type=Path, help="a folder for the workdirs")
    request = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes the worktree
    new = request.new.resolve()
    commit = git(ROOT, "rev-parse", "--verify", f"{request.old}^{{commit}}")
    made_by = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    made_by |= {"platform": platform.platform(), "cpus": os.cpu_count()}
    print(f"old {commit[:12]}, present {describe(new) or new}", flush=True)
    print(", ".join(f"{name} {value}" for name, value in made_by.items()), flush=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = (request.keep or Path(scratch) / "runs").resolve()
        prepare(folder, made_by | {"commit": commit, "recipe": RECIPE})
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
        old = Path(scratch) / "old"
        git(ROOT, "worktree", "add", "--quiet", "--detach", str(old), commit)
        stack.callback(git, ROOT, "worktree", "remove", "--force", str(old))
        equal = [
            check(folder / method / state, method, old, new)
            for method in request.methods.split(",")
            for state in STATES
        ]
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
