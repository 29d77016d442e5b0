"""Fine-tuned accuracy over the epochs of pretraining (`finetune.every_epochs`)."""

import os
import signal

import pytest
from tiny import ROOT, launch, recipe
from tiny_runs import assert_part_of, lines, losses, results

# 16 steps of pretraining; kNN and probe after 4, 8, 12, 16; fine-tuning after 8, 16.
FLAGS = [
    "--config.epochs=4",
    "--config.probe.every_epochs=1",
    "--config.finetune.every_epochs=2",
    "--config.finetune.from_layer=1",
    "--config.finetune.optimizer.weight_decay=1e-4",
    "--config.stages=('pretrain','finetune')",
]


def points(workdir, name):
    """Step -> score of pretraining's lines that have it, in their order."""
    recorded = [x for x in lines(workdir) if x["stage"] == "pretrain" and name in x]
    assert len({x["step"] for x in recorded}) == len(recorded)
    return {x["step"]: x[name] for x in recorded}


@pytest.fixture(scope="module")
def curve(npz, tmp_path_factory):
    """A run that is not interrupted."""
    workdir = tmp_path_factory.mktemp("curve") / "run"
    done = launch(*recipe(npz), *FLAGS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.thorough
def test_the_last_point_is_the_stages_own_result(curve):
    top1, top3 = (points(curve, f"finetune_{name}") for name in ("top1", "top3"))
    assert list(top1) == list(top3) == [8, 16]
    assert {"top1": top1[16], "top3": top3[16]} == results(curve)["finetune"][
        "pretrained"
    ]
    assert list(points(curve, "knn_top1")) == [4, 8, 12, 16]


@pytest.mark.thorough
def test_pretraining_is_what_it_is_without(curve, whole):
    """Its learning rate is constant, so a shorter run is the beginning of a longer."""
    recorded = losses(curve)
    assert list(recorded) == list(range(2, 17, 2))
    assert recorded == {step: losses(whole.workdir)[step] for step in recorded}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "point, code, saved, recorded",
    [
        # In the first fine-tuning, after step 8. Every third step is saved.
        ("tune/3/SIGTERM", 75, ["6", "8"], []),
        # In the second one, at the end of pretraining.
        ("tune/10/SIGKILL", -signal.SIGKILL, ["15", "16"], [8]),
    ],
)
def test_stopped_in_a_fine_tuning_and_continued_equals_a_whole_run(
    curve, npz, tmp_path, point, code, saved, recorded
):
    workdir = tmp_path / "run"
    stopping = f"--config={ROOT}/tests/stopping_recipe.py:{point}"
    data = f"--config.data.path={npz}"
    done = launch(stopping, data, *FLAGS, f"--workdir={workdir}")
    assert done.returncode == code, done.stderr
    assert sorted(os.listdir(workdir / "checkpoints"), key=int) == saved
    assert list(points(workdir, "finetune_top1")) == recorded
    # It takes the batches that are left. One more, and it would be killed again.
    left = 6 * (2 - len(recorded))
    counting = f"--config={ROOT}/tests/stopping_recipe.py:tune/{left + 1}/SIGKILL"
    again = launch(counting, data, *FLAGS, f"--workdir={workdir}")
    assert again.returncode == 0, again.stderr
    assert_part_of(workdir, curve)
