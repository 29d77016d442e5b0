"""A folder of photos, from the files to the report."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT, launch, squares
from tiny_runs import block, refuse


@pytest.mark.thorough
def test_a_flat_folder_from_files_to_a_report(tmp_path):
    """What someone with nothing but photos runs; no image is its own neighbour.

    It needs what the demo needs: TensorFlow and TFDS can't be imported.
    """
    blocked = block(tmp_path / "blocked", "tensorflow", "tensorflow_datasets", "clu")
    images, _ = squares(48, 0)
    photos = tmp_path / "my photos"
    photos.mkdir()
    for k, pixels in enumerate(images):
        Image.fromarray(pixels).save(photos / f"{k}.png")
    done = launch(
        f"--config={ROOT}/configs/folder.py",
        f"--config.data.path={photos}",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.stored_size=16",
        "--config.augment.size=16",
        "--config.augment.blur=0.0",
        "--config.encoder.depth=10",
        "--config.encoder.width=0.0625",
        "--config.batch_size=16",
        "--config.max_steps=2",
        PYTHONPATH=blocked,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run/report.html").read_text()
    assert "Nearest neighbours" in page
    assert "<h2>Map of the images</h2>" in page
    assert "images without labels" not in page
    found = np.load(tmp_path / "run/stages/report/gallery.npz")
    assert found["neighbours"].shape == (48, 5)
    assert not (found["neighbours"] == found["queries"][:, None]).any()
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["pretrain"]["step"] == 2


def test_class_folders_with_a_damaged_file_and_no_test_split(tmp_path, capsys):
    """Every stage, streamed; the damaged file ends the run unless it may be skipped."""
    images, labels = squares(80, 0)
    for k, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        photo = tmp_path / "photos" / f"class {label}" / f"{k}.PNG"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(photo)
    photo.write_bytes(photo.read_bytes()[:100])
    (tmp_path / "photos/notes.txt").write_text("no image")
    flags = [
        f"--config={ROOT}/configs/folder.py:labelled",
        f"--config.data.path={tmp_path / 'photos'}",
        "--config.data.streaming=True",
        "--config.data.train_split=train[:80%]",
        "--config.data.test_split=train[80%:]",
        "--config.finetune.label_fraction=0.5",
        "--config.encoder.depth=10",
        "--config.encoder.width=0.0625",
        "--config.max_steps=2",
    ]
    stages = ("", "finetune.", "supervised.", "distill.")
    flags += [f"--config.{stage}augment.size=16" for stage in stages]
    flags += [f"--config.{stage}batch_size=16" for stage in (*stages, "probe.")]
    flags += ["--config.data.stored_size=16", "--config.augment.blur=0.0"]
    workdir = tmp_path / "run"
    refuse(capsys, workdir, flags, "79.PNG", "--config.data.skip_damaged skip")
    flags.append("--config.data.skip_damaged=1")
    done = launch(*flags, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    found, left, skipped, *_ = done.stderr.splitlines()
    classes = "4 classes (class 0 20, class 1 20, class 2 20, class 3 19)"
    assert found == f"{tmp_path / 'photos'}: 79 images, {classes}, 16 x 16 pixels"
    assert left == "  left out: 1 .txt"
    assert skipped.startswith("  skipped as damaged: class 3/79.PNG (")
    results = json.loads((workdir / "results.json").read_text())
    assert {"pretrain", "knn", "probe", "finetune"} <= set(results)
    assert (workdir / "report.html").exists()
