"""Runs the demo with three seeds, to show that its result is not the luck of one.

    python benchmarks/demo_seeds.py --workdir=runs/demo_seeds

Runs configs/demo.py with seeds 0, 1 and 2 (finished runs are not repeated), writes
benchmarks/results/demo_seeds.json and prints a table: top-1 on the whole test split,
its mean and standard deviation over seeds, and seed by seed the two differences that
the demo is about.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

from demo_rates import DEMO_SEEDS, ROOT, launch

RESULTS = ROOT / "benchmarks/results/demo_seeds.json"
SHOWN = (
    ("linear probe", "probe", "pretrained"),
    ("  on the random encoder", "probe", "random_init"),
    ("fine-tuned", "finetune", "pretrained"),
    ("  from scratch", "finetune", "random_init"),
    ("kNN", "knn", ""),
    ("supervised, all labels", "supervised", ""),
)


def table(runs: list[dict]) -> str:
    """Markdown, in percent: a column for each seed, mean and sd."""
    rows = {
        label: [100 * (run[stage][arm] if arm else run[stage])["top1"] for run in runs]
        for label, stage, arm in SHOWN
    }

    def gap(label: str, better: str, baseline: str) -> None:
        pairs = zip(rows[better], rows[baseline], strict=True)
        rows[label] = [score - base for score, base in pairs]

    gap("probe: pretrained - random", "linear probe", "  on the random encoder")
    gap("fine-tuned - from scratch", "fine-tuned", "  from scratch")
    seeds = [f"seed {run['seed']}" for run in runs]
    lines = [["top-1, %", *seeds, "mean +- sd"], ["---"] * (len(runs) + 2)]
    for label, values in rows.items():
        spread = f"{statistics.mean(values):.1f} +- {statistics.stdev(values):.1f}"
        lines.append([label.strip(), *(f"{x:.1f}" for x in values), spread])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo_seeds"))
    workdir = parser.parse_args().workdir
    os.chdir(ROOT)  # paths in the record are those of this checkout
    runs = [
        launch(workdir / f"seed{seed}", f"--config.seed={seed}") for seed in DEMO_SEEDS
    ]
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
