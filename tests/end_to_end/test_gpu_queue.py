"""A toy training through the queue of GPU runs, on the CPU."""

import json

import pytest
import tiny

from benchmarks import gpu_queue
from benchmarks.gpu_queue import Run

pytestmark = pytest.mark.slow


def test_a_run_is_kept_with_its_results(tmp_path, monkeypatch):
    for name, value in tiny.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    data = tiny.write_npz(tmp_path / "squares.npz")
    command = ("launch.py", "--config=tests/tiny_recipe.py")
    stages = "--config.stages=pretrain,knn,report"
    folders = [f"--workdir={tmp_path}/work", f"--kept={tmp_path}/kept"]
    flags = [*folders, f"--data={data}", "--minutes=30", "--", stages]
    assert gpu_queue.main(flags, [Run("toy", 1, command)]) == 0
    kept = tmp_path / "kept/toy"
    results = json.loads((kept / "results.json").read_text())
    assert 0 <= results["knn"]["top1"] <= 1
    assert (kept / "report.html").is_file()
    assert not list(kept.rglob("digests.json"))  # of a checkpoint
