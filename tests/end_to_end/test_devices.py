"""A run on two devices: the numbers of one, and the same workdir goes on with one.

On the two devices the state is spread (`config.fsdp`), on the one it is not.
"""

import re

import pytest
from tiny import ROOT, launch, recipe
from tiny_runs import losses, results

_STUDENT = [
    "--config.distill.encoder.width=0.03125",
    "--config.distill.epochs=2",
    "--config.distill.batch_size=15",
    "--config.distill.augment.size=16",
    "--config.distill.label_batch_size=8",
]


@pytest.mark.thorough
def test_a_run_on_two_devices_continues_on_one(whole, npz, tmp_path):
    workdir = tmp_path / "run"
    flags = [*recipe(npz), f"--workdir={workdir}", *_STUDENT]
    flags += ["--config.finetune.every_epochs=2"]
    spread = ["--config.devices=0", f"--config={ROOT}/tests/spread_recipe.py"]
    spread += ["--config.stages=('pretrain','knn','probe','finetune','distill')"]
    two = {"JAX_NUM_CPU_DEVICES": "2"}
    first = launch(*flags[1:], *spread, "--config.max_steps=8", **two)
    assert first.returncode == 0, first.stderr
    said = "warning: distill.batch_size 15 is not a multiple of the 2 devices; "
    assert first.stderr.count(said) == 1, first.stderr
    assert first.stderr.count("warning") == 1, first.stderr
    found = results(workdir)
    assert (found["devices"], found["processes"]) == (2, 1)
    assert found["knn"]["step"] == 8
    # Half of a state and a little: of pretraining, of the fine-tuning within it, of
    # stage finetune's two and of the student on labels alone. The three probes and the
    # distilled student, whose batch the devices do not divide, lie whole.
    shares = [float(x) for x in re.findall(r"^share: (.+)$", first.stdout, re.M)]
    assert shares.count(1) == 4, shares
    assert sum(0.5 <= x < 0.55 for x in shares) == len(shares) - 4 == 5, shares

    more = "--config.stages=pretrain,supervised"
    second = launch(*flags, more, "--config.devices=1")
    assert second.returncode == 0, second.stderr
    assert "warning" not in second.stderr
    assert results(workdir)["devices"] == 1
    # Begun on two devices, ended on one; the other run had one from the start.
    alone, both = losses(whole.workdir), losses(workdir)
    assert list(both) == list(alone) == list(range(2, 21, 2))
    assert both == pytest.approx(alone, rel=1e-4)
