"""NaN, Inf and other extreme numbers: in fields, in pixels, in weights."""

import random
from pathlib import Path

import numpy as np

from benchmarks.faults.lab import Kind, Lab, Wrong, last_line
from simclr_jax import checkpoint
from simclr_jax.checkpoint.trees import named_leaves, nest

SHORT = ["--config.max_steps=2", "--config.probe.epochs=2", "--config.log_every=1"]


def _finite(run: Path) -> None:
    """No checkpoint holds a number that is none."""
    for folder in run.rglob("checkpoints"):
        found = checkpoint.restore(folder, {"params": None, "opt_state": None})
        for tree in found[1].values() if found else ():
            arrays = named_leaves(tree).items()
            bad = [name for name, x in arrays if not np.isfinite(x).all()]
            if bad:
                raise Wrong(f"{folder} was kept with {bad[:3]}, which is not finite")


RATES = ("nan", "inf", "-inf", "1e39", "1e300", "1e30", "1e-50")
FIELDS = (
    "optimizer.lr",
    "optimizer.weight_decay",
    "finetune.optimizer.lr",
    "finetune.scratch_lr",
    "supervised.optimizer.lr",
    "probe.optimizer.lr",
    "method.temperature",
    "knn.temperature",
)


def number(lab: Lab, rng: random.Random, folder: Path, count: int) -> str:
    """In a field, in the pixels, or in the weights of a checkpoint."""
    run, value = folder / "run", rng.choice(RATES)
    flags, codes = [*lab.flags(), *SHORT], (0, 2, 3)
    if count % 3 == 0:
        said = f"{rng.choice(FIELDS)}={value}"
        flags.append(f"--config.{said}")
    elif count % 3 == 1:
        path, bad = folder / "x.npz", rng.choice([np.nan, np.inf, -np.inf])
        with np.load(lab.npz) as file:
            arrays = {name: file[name] for name in file}
        images = arrays["train_images"].astype(np.float32) / 255
        images[rng.randrange(len(images)), rng.randrange(16)] = bad
        np.savez(path, **arrays | {"train_images": images})
        said, codes = f"a row of {bad} in train_images", (2,)
        flags.append(f"--config.data.path={path}")
    else:
        bad = rng.choice([np.nan, np.inf, -np.inf])
        leaf = _spoil(lab, rng, run, bad)
        said = f"{bad} in {leaf}"
        flags += [f"--config.pretrained={run}", "--config.stages=knn,probe,finetune"]
        run, codes = folder / "other", (2, 3)
    done = lab.request(*flags, workdir=run).require(*codes)
    if run.exists():
        _finite(run)
    return f"{said}: {done.code} {last_line(done)}"


def _spoil(lab: Lab, rng: random.Random, run: Path, bad: float) -> str:
    """Saves the whole run's pretraining with one number replaced; returns its name."""
    step, items, meta = checkpoint.restore(
        lab.whole / "checkpoints", dict.fromkeys(("params", "model_state"))
    )
    named = named_leaves(items)
    leaf = rng.choice([x for x in named if "/encoder/" in x])
    spoiled = np.array(named[leaf])
    spoiled.flat[rng.randrange(spoiled.size)] = bad
    tree = nest(named | {leaf: spoiled})
    checkpoint.save(run / "checkpoints", step, tree, meta)
    return leaf


KINDS = (
    Kind(
        "numbers",
        "NaN, Inf and extreme numbers in fields, pixels and weights: one line; nothing "
        "that is not finite is kept",
        24,
        number,
    ),
)
