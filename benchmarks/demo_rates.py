"""Chooses the demo's learning rates on labels that the demo never sees.

    python benchmarks/demo_rates.py --workdir=runs/demo_rates

The study uses the demo's training split, without the images that the demo's seeds 0, 1
and 2 draw as labelled: 250 images per class to train on, the rest to score. The test
split is not used. For every seed and learning rate the study runs fine-tuning from a
pretrained encoder and from scratch, and the probe on the pretrained and on the random
encoder, with five labels per class as in the demo. Finished runs are not repeated. The
points go to benchmarks/results/demo_rates.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from configs import demo  # noqa: E402
from simclr_jax.config.stages import stream  # noqa: E402
from simclr_jax.data import balanced_subset, open_dataset  # noqa: E402

DEMO_SEEDS = (0, 1, 2)
SEEDS = (100, 101, 102)
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
TRAIN_PER_CLASS = 250
RESULTS = ROOT / "benchmarks/results/demo_rates.json"


def study_data(path: Path) -> None:
    """Writes the study's .npz, without the demo's labelled and test images."""
    config = demo.get_config()
    reader = open_dataset("mnist5k").reader("train")
    used = {
        int(index)
        for seed in DEMO_SEEDS
        for index in balanced_subset(
            reader.labels,
            config.finetune.label_fraction,
            seed=(seed, stream("labels")),
            num_classes=10,
        )
    }
    free = np.array([i for i in range(reader.num_examples) if i not in used])
    by_class = [free[reader.labels[free] == digit] for digit in range(10)]
    train = np.sort(np.concatenate([rows[:TRAIN_PER_CLASS] for rows in by_class]))
    held_out = np.sort(np.concatenate([rows[TRAIN_PER_CLASS:] for rows in by_class]))
    np.savez(
        path,
        train_images=reader.images[train],
        train_labels=reader.labels[train],
        test_images=reader.images[held_out],
        test_labels=reader.labels[held_out],
    )
    print(
        f"images: {len(used)} labelled in the demo and left out, {len(train)} to train "
        f"on, {len(held_out)} to score"
    )


def launch(workdir: Path, *flags: str) -> dict:
    command = [sys.executable, "launch.py", "--config=configs/demo.py"]
    command += [f"--workdir={workdir}", *flags]
    subprocess.run(command, check=True)
    return json.loads((workdir / "results.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo_rates"))
    workdir = parser.parse_args().workdir
    os.chdir(ROOT)  # paths in the record are those of this checkout
    workdir.mkdir(parents=True, exist_ok=True)
    data = workdir / "study.npz"
    if not data.exists():
        study_data(data)
    fraction = 5 / TRAIN_PER_CLASS
    # The demo's number of steps: an epoch has 39 steps here and 62 in the demo.
    shared = [
        "--config.data.name=npz",
        f"--config.data.path={data}",
        "--config.epochs=32",
        "--config.probe.every_epochs=0",
        f"--config.probe.label_fraction={fraction}",
        f"--config.finetune.label_fraction={fraction}",
    ]
    points = []
    for seed in SEEDS:
        source = workdir / f"seed{seed}"
        seeded = [*shared, f"--config.seed={seed}"]
        launch(source, *seeded, "--config.stages=('pretrain',)")
        for rate in RATES:
            results = launch(
                workdir / f"seed{seed}-{rate:g}",
                *seeded,
                f"--config.pretrained={source}",
                "--config.stages=('probe','finetune')",
                f"--config.finetune.optimizer.lr={rate}",
                f"--config.finetune.scratch_lr={rate}",
                f"--config.probe.optimizer.lr={rate}",
            )
            points += [
                {"seed": seed, "lr": rate, "stage": stage, "arm": arm}
                | {"top1": results[stage][arm]["top1"]}
                for stage in ("finetune", "probe")
                for arm in ("pretrained", "random_init")
            ]
            record = {k: results[k] for k in ("commit", "versions", "device", "cpus")}
            record |= {"command": "python benchmarks/demo_rates.py", "points": points}
            RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    show(points)


def show(points: list[dict]) -> None:
    print(f"{'top-1 on held-out labels, %':30}" + "".join(f"{r:>14g}" for r in RATES))
    for stage, arm in dict.fromkeys((p["stage"], p["arm"]) for p in points):
        cells = []
        for rate in RATES:
            scores = [
                100 * p["top1"]
                for p in points
                if (p["stage"], p["arm"], p["lr"]) == (stage, arm, rate)
            ]
            spread = statistics.stdev(scores)
            cells.append(f"{statistics.mean(scores):7.1f} +- {spread:3.1f}")
        print(f"{stage + ' ' + arm:30}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
