"""docs/encoder.md: its commands, then its Python, from first to last, on a tiny run."""

import csv
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny import ENVIRONMENT, ROOT, squares

import launch

pytestmark = pytest.mark.usefixtures("compile_in_haste")

PAGE = (ROOT / "docs" / "encoder.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL)
COLOURS = ("red", "green", "blue", "yellow")
# In place of hours: a tiny network and two steps of each training.
TINY = [
    *(f"--config.{x}augment.size=16" for x in ("", "finetune.")),
    *(f"--config.{x}batch_size=16" for x in ("", "finetune.")),
    "--config.data.stored_size=16",
    "--config.augment.blur=0.0",
    "--config.encoder.depth=10",
    "--config.encoder.width=0.0625",
    "--config.finetune.label_fraction=0.5",
    "--config.max_steps=2",
    "--config.devices=1",
    "--config.stages=pretrain,finetune,export",
]
# A block that begins so needs a package. The run is too narrow for torchvision's
# classes, so torch's block is only compiled; tests/unit/export compares with them.
NEEDS = {"# onnxruntime": "jax2onnx", "# flatbuffers": "flatbuffers", "# torch": ""}


def there(package):
    return bool(package) and importlib.util.find_spec(package) is not None


def save(folder, count, seed, classes):
    images, labels = squares(count, seed)
    for k, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / COLOURS[label] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{k}.png")


def commands():
    """The words of each command after `python launch.py`."""
    for language, text in BLOCKS:
        lines = text.replace("\\\n", " ").splitlines() if language == "bash" else []
        for line in lines:
            python, script, *words = shlex.split(line)
            assert (python, script) == ("python", "launch.py")
            yield words


@pytest.mark.thorough
def test_the_page_from_its_first_to_its_last_line(tmp_path, monkeypatch, capsys):
    save(tmp_path / "PHOTOS" / "train", 64, 0, classes=True)
    save(tmp_path / "PHOTOS" / "test", 24, 1, classes=True)
    save(tmp_path / "NEW_PHOTOS", 6, 2, classes=False)
    monkeypatch.chdir(tmp_path)
    for words in commands():
        if "--workdir=runs/photos" in words:
            words += TINY
        words = [x.replace("=configs/", f"={ROOT}/configs/") for x in words]
        if words[-1] != "--format=onnx" or there("jax2onnx"):
            code = launch.main(["launch.py", *words])
            assert code == 0, (words, capsys.readouterr().err)
    scripts = [text for language, text in BLOCKS if language == "python"]
    for text in scripts:
        compile(text, "encoder.md", "exec")
    run = [x for x in scripts if there(NEEDS.get(x.partition("\n")[0], "numpy"))]
    assert len(run) >= len(scripts) - len(NEEDS) - 1  # torch has two
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(run)],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    new, embedded = (
        dict(np.load(x)) for x in ("new.npz", "runs/embedded/embeddings.npz")
    )
    assert len(new["h"]) == len(new["file"]) == 6
    assert json.loads(str(new["about"]))["encoder"]["step"] == 2
    with open("classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == new["file"].tolist()
    assert {row["class"] for row in rows} <= set(COLOURS)
    assert embedded["h"].shape == (88, new["h"].shape[1])
    assert (embedded["split"] == "test").sum() == 24
