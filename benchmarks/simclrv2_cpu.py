"""Tests SimCLRv2's two claims on real CIFAR-10, on two CPU cores, with 1 % of labels.

    python benchmarks/simclrv2_cpu.py --data_dir=TFDS --workdir=runs/simclrv2

Runs configs/simclrv2.py:cpu (5,000 images, 50 labels, 10 epochs) with seeds 0, 1 and 2.
Two comparisons: fine-tuning one pretrained network from the first head layer or from h;
and a student of half the width that is distilled from that network, that is pretrained
and fine-tuned itself, or that is trained on the labels alone. Finished seeds are in
benchmarks/results/simclrv2_cpu.json (see points.py). Prints the table.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import points

PATH = points.RESULTS / "simclrv2_cpu.json"
SEEDS = (0, 1, 2)
# Rows of the table, and the pairs that are compared seed by seed.
ROWS = {
    "random encoder, probe, 5,000 labels": "probe_random",
    "pretrained, probe, 5,000 labels": "probe",
    "from scratch": "scratch",
    "fine-tuned from h": "from_h",
    "fine-tuned from head layer 1": "from_head_1",
    "student on the labels alone": "student_scratch",
    "student pretrained, fine-tuned from head layer 1": "student_from_head_1",
    "student distilled": "student_distilled",
}
PAIRS = (
    ("head layer 1 - h", "from_head_1", "from_h"),
    ("distilled - fine-tuned student", "student_distilled", "student_from_head_1"),
    ("distilled - its teacher", "student_distilled", "from_head_1"),
)


def run(seed: int, data_dir: str, workdir: Path) -> dict:
    """The three trainings of one seed."""
    recipe = "simclrv2.py:cpu"
    common = {"seed": seed, "data.data_dir": data_dir}
    big = points.launch(recipe, workdir / "big", common)
    from_h = points.launch(
        recipe,
        workdir / "from_h",
        common
        | {
            "pretrained": workdir / "big",
            "stages": "('finetune',)",
            "finetune.from_layer": 0,
        },
    )
    narrow = points.launch(
        recipe,
        workdir / "narrow",
        common
        | {
            "stages": "('pretrain','finetune')",
            "encoder.width": big["config"]["distill"]["encoder"]["width"],
        },
    )
    top1 = {
        "probe": big["probe"]["pretrained"],
        "probe_random": big["probe"]["random_init"],
        "from_head_1": big["finetune"]["pretrained"],
        "scratch": big["finetune"]["random_init"],
        "from_h": from_h["finetune"]["pretrained"],
        "student_from_head_1": narrow["finetune"]["pretrained"],
        "student_scratch": big["distill"]["random_init"],
        "student_distilled": big["distill"]["student"],
    }
    return {
        "top1": {name: score["top1"] for name, score in top1.items()},
        "probe_layers": big["probe"]["layers"],
        "seconds": {
            name: record["wall_clock_s"]
            for name, record in (("big", big), ("from_h", from_h), ("narrow", narrow))
        },
    } | points.provenance(big)


def table(found: dict) -> str:
    """Markdown, top-1 in percent: a column for each seed, mean +- sd."""
    runs = list(found.values())
    seeds = [f"seed {x['seed']}" for x in runs]
    lines = [["top-1, %", *seeds, "mean +- sd"], ["---"] * (len(runs) + 2)]

    def line(label: str, values: list[float]) -> None:
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        cells = [f"{x:.1f}" for x in values]
        lines.append([label, *cells, f"{statistics.mean(values):.1f} +- {spread:.1f}"])

    for label, name in ROWS.items():
        line(label, [100 * x["top1"][name] for x in runs])
    for label, one, other in PAIRS:
        line(label, [100 * (x["top1"][one] - x["top1"][other]) for x in runs])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/simclrv2"))
    parser.add_argument("--data_dir", default="", help="TFDS's folder")
    parser.add_argument("--limit", type=int, default=99, help="seeds to run now")
    args = parser.parse_args()
    todo = [(f"seed={seed}", partial(run, seed, args.data_dir)) for seed in SEEDS]
    found = points.run_missing(PATH, todo, args.workdir.resolve(), args.limit)
    print(table(found))


if __name__ == "__main__":
    main()
