"""Compares SimCLR, MoCo v2 and BYOL on real CIFAR-10, on CPU cores.

    python benchmarks/methods_cpu.py --data_dir=TFDS --workdir=runs/methods

Runs the yardstick (configs/cifar10_cpu.py and its variants) with 5,000 images and seeds
0, 1 and 2: 10 epochs of SimCLR in batches of 256, 30 of the others in batches of 64.
Measures kNN, the probe of the pretrained and of the random encoder, wall clock and peak
memory. benchmarks/results/methods_cpu.json keeps each point, which is not run again
(see points.py: two processes can share the work). Prints the table.

    python benchmarks/methods_cpu.py --data_dir=TFDS --workdir=runs/held_out --choose

shows how SETTINGS were chosen. It runs CANDIDATES with seed 100 and scores them on
training images 5,000 to 9,999, which the table's runs neither train on nor are tested
with (benchmarks/results/methods_cpu_choose.json). SimCLR's settings were not searched:
they are the yardstick's. BYOL's 30 epochs extend the candidate of 20, without a trial.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import points

SEEDS = (0, 1, 2)
CHOICE_SEED = 100
IMAGES = 5_000

COMMON = {
    "epochs": 10,
    "data.limit": IMAGES,
    "stages": "('pretrain','knn','probe')",
    "probe.every_epochs": 0,
}
_GROUPS = {"batch_size": 64, "method.bn_groups": 8, "method.temperature": 0.2}
# What each method changes in its variant of the recipe. Of the candidates with 10
# epochs only symmetric MoCo, which encodes twice as many keys, gained five points of
# the probe over the random encoder.
SETTINGS: dict[str, dict] = {
    "simclr": {},
    "moco": _GROUPS | {"epochs": 30},
    "byol": {"batch_size": 64, "method.momentum": 0.9, "epochs": 30},
}
CANDIDATES: list[tuple[str, dict]] = [
    ("simclr", {}),
    ("moco", {}),
    ("byol", {}),
    ("moco", {"batch_size": 64, "method.bn_groups": 2}),
    ("byol", {"batch_size": 64}),
    (
        "moco",
        {
            "batch_size": 64,
            "method.bn_groups": 2,
            "method.symmetric": True,
            "method.momentum": 0.9,
            "method.temperature": 0.2,
        },
    ),
    ("byol", {"batch_size": 64, "method.momentum": 0.9, "epochs": 20}),
    ("moco", {"batch_size": 64, "method.bn_groups": 2, "projector.norm": True}),
    (
        "moco",
        {
            "batch_size": 64,
            "method.bn_groups": 2,
            "epochs": 20,
            "optimizer.lr": 2e-3,
            "optimizer.schedule": "cosine",
        },
    ),
    ("moco", {"batch_size": 64, "method.bn_groups": 8}),
    ("moco", _GROUPS),
    ("moco", _GROUPS | {"method.symmetric": True}),
    ("moco", _GROUPS | {"epochs": 30}),
]


def run(variant: str, settings: dict, workdir: Path) -> dict:
    recipe = f"cifar10_cpu.py:{variant}"
    record = points.launch(recipe, workdir, COMMON | settings)
    return {
        "knn": record["knn"]["top1"],
        "probe": record["probe"]["pretrained"]["top1"],
        "probe_random": record["probe"]["random_init"]["top1"],
        "pretrain": record["pretrain"],
        "wall_clock_s": record["wall_clock_s"],
        "peak_memory_mib": record["peak_memory_mib"],
    } | points.provenance(record)


def table(found: dict) -> str:
    """Markdown: mean +- sd over seeds, in percent, seconds and MiB."""
    columns = (
        ("kNN, %", lambda x: 100 * x["knn"]),
        ("probe, %", lambda x: 100 * x["probe"]),
        ("random encoder, %", lambda x: 100 * x["probe_random"]),
        ("gain, points", lambda x: 100 * (x["probe"] - x["probe_random"])),
        ("pretraining, s", lambda x: x["pretrain"]["seconds"]),
        ("whole run, s", lambda x: x["wall_clock_s"]),
        ("peak memory, MiB", lambda x: x["peak_memory_mib"]),
    )
    first = ["method", "epochs", "batch", "steps", "cores", "seeds"]
    lines = [[*first, *(name for name, _ in columns)]]
    lines.append(["---"] * len(lines[0]))
    for method in SETTINGS:
        runs = [x for name, x in found.items() if name.split()[0] == method]
        if not runs:
            continue
        cells = []
        for _, value in columns:
            values = [value(run) for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.1f} +- {spread:.1f}")
        run, trained = runs[0], runs[0]["pretrain"]
        batch = run["settings"].get("batch_size", 256)  # the recipe's
        about = [f"{trained['epochs']:g}", batch, trained["step"], run["cpus"]]
        lines.append([method, *map(str, about), str(len(runs)), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def held_out(data_dir: str, path: Path) -> None:
    """Writes training images 0 to 4,999 to train on and 5,000 to 9,999 to test on."""
    import numpy as np
    from tensorflow_datasets import as_numpy, load  # pyright: ignore

    rows = as_numpy(load("cifar10", split="train[:10000]", data_dir=data_dir))
    images, labels = zip(*((x["image"], x["label"]) for x in rows), strict=True)
    images, labels = np.stack(images), np.array(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        train_images=images[:IMAGES],
        train_labels=labels[:IMAGES],
        test_images=images[IMAGES:],
        test_labels=labels[IMAGES:],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/methods"))
    parser.add_argument("--data_dir", default="", help="TFDS's folder")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--limit", type=int, default=99, help="points to run now")
    args = parser.parse_args()
    workdir = args.workdir.resolve()
    if args.choose:
        path = points.RESULTS / "methods_cpu_choose.json"
        npz = workdir / "held_out.npz"
        if not npz.exists():
            held_out(args.data_dir, npz)
        source = {"data.name": "npz", "data.path": npz, "seed": CHOICE_SEED}
        runs = [
            (" ".join([variant, *(f"{k}={v}" for k, v in changes.items())]), changes)
            for variant, changes in CANDIDATES
        ]
    else:
        path = points.RESULTS / "methods_cpu.json"
        source = {"data.data_dir": args.data_dir}
        runs = [
            (f"{variant} seed={seed}", {"seed": seed} | changes)
            for seed in SEEDS
            for variant, changes in SETTINGS.items()
        ]
    todo = [(name, partial(run, name.split()[0], source | x)) for name, x in runs]
    found = points.run_missing(path, todo, workdir, args.limit)
    if args.choose:
        for name, x in found.items():
            print(
                f"{name}: kNN {100 * x['knn']:.1f}, probe {100 * x['probe']:.1f}, "
                f"random {100 * x['probe_random']:.1f}, {x['wall_clock_s']:.0f} s"
            )
    else:
        print(table(found))


if __name__ == "__main__":
    main()
