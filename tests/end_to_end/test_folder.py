"""A folder of photos, from the files to the report."""

import json

import numpy as np
from PIL import Image
from tiny import ROOT, launch, squares
from tiny_runs import block


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
    assert "Map of the test images" in page
    found = np.load(tmp_path / "run/stages/report/gallery.npz")
    assert found["neighbours"].shape == (48, 5)
    assert not (found["neighbours"] == found["queries"][:, None]).any()
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["pretrain"]["step"] == 2
