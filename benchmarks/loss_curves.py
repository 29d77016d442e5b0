"""Draws the pretraining losses of two runs on each other, and prints their means.

    python benchmarks/loss_curves.py float32=A/metrics.jsonl bfloat16=B/metrics.jsonl \\
        --out=curves.png

Compares the steps that both runs recorded.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_SPAN = 100  # steps that a printed mean covers


def losses(path: str) -> dict[int, float]:
    """Step -> loss of pretraining."""
    lines = map(json.loads, Path(path).read_text().splitlines())
    return {
        line["step"]: line["loss"]
        for line in lines
        if line["stage"] == "pretrain" and "loss" in line
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs=2, metavar="NAME=FILE")
    parser.add_argument("--out", default="curves.png")
    options = parser.parse_args()
    runs = dict(word.split("=", 1) for word in options.runs)
    curves = {name: losses(path) for name, path in runs.items()}
    first, second = curves.values()
    steps = sorted(first.keys() & second.keys())
    print(f"steps       {'  '.join(curves)}  difference")
    for start in range(0, steps[-1], _SPAN):
        span = [step for step in steps if start < step <= start + _SPAN]
        means = [statistics.mean(curve[s] for s in span) for curve in curves.values()]
        change = means[1] / means[0] - 1
        print(
            f"{span[0]:4}-{span[-1]:4}  {means[0]:.4f}  {means[1]:.4f}  {change:+.2%}"
        )
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, curve in curves.items():
        axes.plot(steps, [curve[step] for step in steps], label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
