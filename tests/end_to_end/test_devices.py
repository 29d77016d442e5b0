"""A run on two devices: the numbers of one, and the same workdir goes on with one."""

import pytest
from tiny import launch, recipe
from tiny_runs import losses, results


def test_a_run_on_two_devices_continues_on_one(whole, npz, tmp_path):
    workdir = tmp_path / "run"
    # 15 does not divide: each device computes the whole batch.
    flags = [*recipe(npz), f"--workdir={workdir}", "--config.finetune.batch_size=15"]
    two = {"JAX_NUM_CPU_DEVICES": "2"}
    first = launch(*flags, "--config.devices=0", "--config.max_steps=8", **two)
    assert first.returncode == 0, first.stderr
    said = "warning: finetune.batch_size 15 is not a multiple of the 2 devices; "
    assert first.stderr.count(said) == 1, first.stderr
    assert first.stderr.count("warning") == 1, first.stderr
    found = results(workdir)
    assert (found["devices"], found["processes"]) == (2, 1)
    assert found["knn"]["step"] == 8

    second = launch(*flags, "--config.devices=1")
    assert second.returncode == 0, second.stderr
    assert "warning" not in second.stderr
    assert results(workdir)["devices"] == 1
    # Begun on two devices, ended on one; the other run had one from the start.
    alone, both = losses(whole.workdir), losses(workdir)
    assert list(both) == list(alone) == list(range(2, 21, 2))
    assert both == pytest.approx(alone, rel=1e-4)
