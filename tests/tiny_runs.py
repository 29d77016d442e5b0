"""Reads what runs left behind, and holds two of them against each other."""

import json
from pathlib import Path

import jax
import numpy as np

import launch
from simclr_jax import checkpoint

STAGES = ("pretrain", "knn", "probe", "finetune", "supervised")


def results(workdir: Path) -> dict:
    return json.loads((workdir / "results.json").read_text())


def lines(workdir: Path) -> list[dict]:
    """What metrics.jsonl holds; fails on a half line."""
    text = (workdir / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def losses(workdir: Path) -> dict[int, float]:
    """Step -> loss of pretraining."""
    found = [x for x in lines(workdir) if x["stage"] == "pretrain" and "loss" in x]
    steps = [x["step"] for x in found]
    assert steps == sorted(set(steps))
    return {x["step"]: x["loss"] for x in found}


def without_clock(record: dict) -> dict:
    """A line of metrics.jsonl or a result, without what differs from run to run."""
    clock = ("seconds", "images_per_second")
    return {k: v for k, v in record.items() if k not in clock}


def arrays(workdir: Path) -> dict:
    """Every leaf of every newest checkpoint, by stage."""
    found = {}
    for folder in sorted(workdir.rglob("checkpoints")):
        items = {name: None for name in ("params", "model_state", "opt_state")}
        step, trees, _ = checkpoint.restore(folder, items)
        found[str(folder.relative_to(workdir))] = (step, trees)
    return found


def assert_part_of(part: Path, whole: Path) -> None:
    """Every stage that the run `part` has is, bit for bit, that of the run `whole`."""
    mine, theirs = arrays(part), arrays(whole)
    assert mine
    for stage, (step, trees) in mine.items():
        assert step == theirs[stage][0], stage
        jax.tree.map(np.testing.assert_array_equal, trees, theirs[stage][1])
    stages = [name for name in results(part) if name in STAGES]
    for name in stages:
        ours, other = (without_clock(results(x)[name]) for x in (part, whole))
        assert ours == other, name
    recorded = [
        [without_clock(x) for x in lines(workdir) if x["stage"] in stages]
        for workdir in (part, whole)
    ]
    assert recorded[0] == recorded[1]


def expect_refusal(code: int, error: str, workdir: Path, *words: str) -> None:
    """Exit 2 and one line that holds these words on stderr; nothing written."""
    assert code == 2, error
    assert error.startswith("error: "), error
    assert error.count("\n") == 1, error
    for word in words:
        assert word in error, error
    assert not workdir.exists()


def refuse(capsys, workdir: Path, flags: list[str], *words: str) -> None:
    """Asks launch.py, in this process: jax takes seconds to import."""
    code = launch.main(["launch.py", *flags, f"--workdir={workdir}"])
    expect_refusal(code, capsys.readouterr().err, workdir, *words)


def block(folder: Path, *packages: str) -> str:
    """What PYTHONPATH must be for these packages to fail to import."""
    for name in packages:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise ImportError('blocked')")
    return str(folder)
