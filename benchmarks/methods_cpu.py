"""SimCLR, MoCo v2 and BYOL side by side on real CIFAR-10, two CPU cores.

    python benchmarks/methods_cpu.py --data_dir=TFDS --workdir=runs/methods

The yardstick (configs/cifar10_cpu.py and its variants) with 5,000 images and 10 epochs,
seeds 0, 1 and 2: kNN, probe of the pretrained and of the random encoder, wall clock and
peak memory. One point after the other; each is in benchmarks/results/methods_cpu.json
once it is done, and is not run again. Started twice, the two share the points: with
`taskset -c 0` and `taskset -c 1` each run has one core. Prints the table.

    python benchmarks/methods_cpu.py --data_dir=TFDS --workdir=runs/held_out --choose

is how SETTINGS were chosen: candidates at seed 100, scored on training images 5,000 to
9,999, which the table's runs neither train on nor are tested with
(benchmarks/results/methods_cpu_choose.json).
"""

import argparse
import contextlib
import fcntl
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
SEEDS = (0, 1, 2)
CHOICE_SEED = 100
IMAGES = 5_000

COMMON = {
    "epochs": 10,
    "data.limit": IMAGES,
    "stages": "('pretrain','knn','probe')",
    "probe.every_epochs": 0,
}
# What each method's variant of the recipe is changed in, if anything.
# MoCo's is still to be found: no candidate gained the five points asked of it.
SETTINGS: dict[str, dict] = {
    "simclr": {},
    "moco": {"batch_size": 64, "method.temperature": 0.2},
    "byol": {"batch_size": 64, "method.momentum": 0.9, "epochs": 20},
}
_GROUPS = {"batch_size": 64, "method.bn_groups": 8, "method.temperature": 0.2}
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
    ("moco", _GROUPS | {"method.queue_size": 256}),
]


def flags(settings: dict) -> list[str]:
    return [f"--config.{name}={value}" for name, value in settings.items()]


def launch(variant: str, workdir: Path, settings: dict) -> dict:
    """One run of launch.py: its results.json, with seconds and peak memory."""
    command = [
        *(sys.executable, str(ROOT / "launch.py")),
        f"--config={ROOT}/configs/cifar10_cpu.py:{variant}",
        f"--workdir={workdir}",
        *flags(COMMON | settings),
    ]
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(
            f"{' '.join(command)}: exit {os.waitstatus_to_exitcode(status)}"
        )
    record = json.loads((workdir / "results.json").read_text())
    # Of this process: an interrupted run that continued counts from there.
    record["wall_clock_s"] = round(time.monotonic() - begin, 1)
    record["peak_memory_mib"] = round(usage.ru_maxrss / 1024)
    machine = ("data.data_dir", "data.path")  # paths of this machine
    changes = COMMON | settings
    record["settings"] = {k: v for k, v in changes.items() if k not in machine}
    return record


def summary(record: dict) -> dict:
    kept = ("commit", "versions", "device", "cpus", "seed", "settings")
    return {
        "knn": record["knn"]["top1"],
        "probe": record["probe"]["pretrained"]["top1"],
        "probe_random": record["probe"]["random_init"]["top1"],
        "pretrain": record["pretrain"],
        "wall_clock_s": record["wall_clock_s"],
        "peak_memory_mib": record["peak_memory_mib"],
    } | {name: record[name] for name in kept}


def read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def run_missing(
    path: Path, points: list[tuple[str, str, dict]], workdir: Path, limit: int
) -> None:
    """Runs up to `limit` points that `path` lacks and no other process is at."""
    for name, variant, settings in points:
        folder = workdir / name.replace(" ", "_").replace("=", "_")
        with locked(folder.with_name(f"{folder.name}.lock"), wait=False) as mine:
            if not limit or not mine or name in read(path):
                continue
            limit -= 1
            print(f"methods_cpu: {name}", file=sys.stderr, flush=True)
            result = summary(launch(variant, folder, settings))
            with locked(workdir / "results.lock", wait=True):
                temporary = path.with_suffix(".tmp")
                found = read(path) | {name: result}
                temporary.write_text(json.dumps(found, indent=1) + "\n")
                temporary.replace(path)


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Iterator[bool]:
    """Whether this process has the file's lock; it ends with the process."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


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
    lines = [["method", "epochs", "seeds", *(name for name, _ in columns)]]
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
        epochs = f"{runs[0]['pretrain']['epochs']:g}"
        lines.append([method, epochs, str(len(runs)), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def held_out(data_dir: str, path: Path) -> Path:
    """Training images 0 to 4,999 to train on, 5,000 to 9,999 to be tested with."""
    import numpy as np
    from tensorflow_datasets import as_numpy, load  # pyright: ignore

    rows = as_numpy(load("cifar10", split="train[:10000]", data_dir=data_dir))
    images, labels = zip(*((x["image"], x["label"]) for x in rows), strict=True)
    images, labels = np.stack(images), np.array(labels)
    np.savez(
        path,
        train_images=images[:IMAGES],
        train_labels=labels[:IMAGES],
        test_images=images[IMAGES:],
        test_labels=labels[IMAGES:],
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/methods"))
    parser.add_argument("--data_dir", default="", help="TFDS's folder")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--limit", type=int, default=99, help="points to run now")
    args = parser.parse_args()
    workdir = args.workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    if args.choose:
        npz = workdir / "held_out.npz"
        if not npz.exists():
            held_out(args.data_dir, npz)
        source: dict = {"data.name": "npz", "data.path": npz, "seed": CHOICE_SEED}
        path = RESULTS / "methods_cpu_choose.json"
        points = [
            (
                " ".join([variant, *(f"{k}={v}" for k, v in changes.items())]),
                variant,
                source | changes,
            )
            for variant, changes in CANDIDATES
        ]
    else:
        path = RESULTS / "methods_cpu.json"
        points = [
            (
                f"{variant} seed={seed}",
                variant,
                {"seed": seed, "data.data_dir": args.data_dir} | changes,
            )
            for seed in SEEDS
            for variant, changes in SETTINGS.items()
        ]
    run_missing(path, points, workdir, args.limit)
    found = read(path)
    if args.choose:
        for name, run in found.items():
            print(
                f"{name}: kNN {100 * run['knn']:.1f}, probe {100 * run['probe']:.1f}, "
                f"random {100 * run['probe_random']:.1f}, {run['wall_clock_s']:.0f} s"
            )
    else:
        print(table(found))


if __name__ == "__main__":
    main()
