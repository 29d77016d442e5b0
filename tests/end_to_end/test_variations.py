"""Fields that change how a step is computed, or what it sees: through launch.py."""

import math

import pytest
from tiny import launch, recipe
from tiny_runs import losses


def pretrained(npz, workdir, *fields):
    """Step -> loss of four steps of pretraining."""
    flags = [*recipe(npz), f"--workdir={workdir}", "--config.max_steps=4"]
    flags += ["--config.stages=('pretrain',)", "--config.probe.every_epochs=0"]
    done = launch(*flags, *fields)
    assert done.returncode == 0, done.stderr
    found = losses(workdir)
    assert list(found) == [2, 4]
    return found


def test_recomputing_the_activations_changes_no_loss(whole, npz, tmp_path):
    """config.remat, beside the whole run's; to rounding."""
    found = pretrained(npz, tmp_path / "run", "--config.remat=True")
    expected = {step: losses(whole.workdir)[step] for step in found}
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "field, near",
    [
        ("precision=bfloat16", 0.02),  # has eight bits
        ("microbatch=8", 0.1),  # BatchNorm normalises eight images, not sixteen
        ("augment.second.crop_scale=(0.9,1.0)", 0.5),  # easier to tell apart
    ],
)
def test_a_field_reaches_the_step(whole, npz, tmp_path, field, near):
    """The loss is another, of about the same size."""
    found = pretrained(npz, tmp_path / "run", f"--config.{field}")
    for step, loss in found.items():
        expected = losses(whole.workdir)[step]
        assert math.isfinite(loss)
        assert loss != pytest.approx(expected, rel=1e-4)
        assert loss == pytest.approx(expected, rel=near)
