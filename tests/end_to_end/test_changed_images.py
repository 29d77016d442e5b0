"""Images that change under a workdir: training stops, evaluations are made again."""

import shutil

import numpy as np
import pytest
from tiny import launch, recipe
from tiny_runs import results


def fewer(npz, folder):
    """The same images but the last training image."""
    with np.load(npz) as archive:
        arrays = dict(archive)
    for name in ("train_images", "train_labels"):
        arrays[name] = arrays[name][:-1]
    path = folder / "fewer.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.thorough
def test_images_that_change_under_a_workdir(whole, npz, tmp_path):
    """The table of the old images was shown with "everything is done already"."""
    changed = fewer(npz, tmp_path)
    workdir = shutil.copytree(whole.workdir, tmp_path / "done")
    flags = [f"--workdir={workdir}", "--config.stages=pretrain,knn"]
    done = launch(*recipe(changed), *flags)
    assert done.returncode == 0, done.stderr
    what = "train had 64 images, now 63"
    assert f"warning: the images have changed: {what}; measuring" in done.stderr
    assert results(workdir)["knn"]["data"]["train"]["images"] == 63
    again = launch(*recipe(changed), *flags)
    assert "everything is done already" in again.stdout
    assert "changed" not in again.stderr

    # In the middle of a training they must not change.
    begun = tmp_path / "begun"
    flags = [f"--workdir={begun}", "--config.stages=pretrain"]
    first = launch(*recipe(npz), *flags, "--config.max_steps=3")
    assert first.returncode == 0, first.stderr
    refused = launch(*recipe(changed), *flags)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: config.data: the images are not those of step 3 of")
    assert what in line
