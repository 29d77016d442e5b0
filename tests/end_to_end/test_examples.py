"""The examples run as they are read, on data that this file makes."""

import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny import ENVIRONMENT, PATIENCE, ROOT, squares

SCRIPT = ROOT / "examples/simclr_in_60_lines.py"
NOTEBOOK = json.loads((ROOT / "examples/photos.ipynb").read_text())


def python(code: str, folder) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_sixty_lines_learn(npz, tmp_path):
    """The loss of two random views is about log(2N - 1), and falls."""
    assert len(SCRIPT.read_text().splitlines()) <= 60
    size = {"steps": 40, "batch_size": 32, "size": 16}
    out = python(
        f"import runpy; run = runpy.run_path({str(SCRIPT)!r})\n"
        f"variables = run['main']({str(npz)!r}, **{size})\n"
        "images = run['jnp'].ones((3, 16, 16, 3))\n"
        "h, z = run['SimCLR']().apply(variables, images, False)\n"
        "print(h.shape, z.shape)\n",
        tmp_path,
    )
    losses = [float(x) for x in re.findall(r"^step \d+  loss (\S+)$", out, re.M)]
    assert len(losses) == 40
    assert losses[0] == pytest.approx(math.log(63), abs=0.5)
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.1
    assert out.endswith("(3, 128) (3, 64)\n")


@pytest.mark.thorough
def test_the_notebook_runs(tmp_path):
    """Cell after cell, with small numbers in the place of its settings."""
    cells = [
        "".join(x["source"]) for x in NOTEBOOK["cells"] if x["cell_type"] == "code"
    ]
    assert "PHOTOS = Path(" in cells[0]
    cells[0] += (
        "\nFIELDS |= {'epochs': 15, 'batch_size': 32, 'data.stored_size': 16,"
        " 'augment.size': 16, 'encoder.depth': 10, 'encoder.width': 0.125,"
        " 'encoder.stem': 'cifar', 'augment.blur': 0.0, 'augment.hue': 0.0,"
        " 'augment.grayscale': 0.0, 'devices': 1}\n"
    )
    for i, (image, label) in enumerate(zip(*squares(160, 0), strict=True)):
        path = tmp_path / f"photos/class_{label}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    out = python("\n".join(cells), tmp_path)
    assert "report: runs/photos/report.html" in out
    right = re.search(r"^80 labels: (\S+)% of 80 photos are right$", out, re.M)
    assert right, out
    # Four classes of as many squares: a quarter is chance.
    assert "the largest class alone: 25.0%" in out
    assert float(right[1]) > 70


def test_the_notebook_is_clean_and_says_what_each_cell_does():
    cells = NOTEBOOK["cells"]
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown"
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
