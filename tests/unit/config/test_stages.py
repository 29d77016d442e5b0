"""The list of stages: streams that never change, and what makes a result stale."""

import pytest

from configs import common
from simclr_jax.config.stages import (
    STAGES,
    having,
    holds,
    of_own_pretraining,
    stream,
    trained,
)

# As they were when the first workdirs with them were made.
STREAMS = {
    "init": 0,
    "data": 1,
    "labels": 2,
    "pretrain": 3,
    "probe": 4,
    "finetune": 5,
    "supervised": 6,
    "report": 7,
    "distill": 8,
    "distill_labels": 9,
    "scores": 10,
}


def test_streams_keep_their_numbers():
    assert {name: stream(name) for name in STREAMS} == STREAMS
    own = {name: x.stream for name, x in STAGES.items() if x.stream is not None}
    assert own.items() <= STREAMS.items()
    with pytest.raises(KeyError):
        stream("knn")


def test_stages_are_found_by_what_they_need():
    encoders = {"knn", "probe", "finetune", "embed", "export"}
    assert having(needs="encoder") == encoders
    assert having(labels="finetune") == {"finetune", "distill"}
    assert having(makes="encoder") == {"pretrain"}
    assert having(records=False) == {"report", "embed", "export"}
    assert having(loads=True) == {"embed", "export"}


@pytest.mark.parametrize(
    "stages, probe, finetune, expected",
    [
        (("pretrain", "knn"), 0, 0, {"pretrain", "knn"}),
        (("pretrain",), 5, 0, {"pretrain", "probe"}),
        (("pretrain", "probe"), 5, 9, {"pretrain", "probe", "finetune"}),
        (("knn", "report"), 5, 9, {"knn", "report"}),  # nothing is pretrained
    ],
)
def test_pretraining_trains_what_it_measures(stages, probe, finetune, expected):
    config = common.get_config()
    config.stages = stages
    config.probe.every_epochs, config.finetune.every_epochs = probe, finetune
    assert trained(config) == expected


@pytest.mark.parametrize(
    "result, origin, expected",
    [
        (None, {}, False),
        ({"max_steps": 5}, {}, True),
        ({"max_steps": 0}, {}, False),
        ({}, {}, False),
        ({"max_steps": 5, "step": 3}, {"step": 3}, True),
        ({"max_steps": 5, "step": 3}, {"step": 4}, False),
        ({"max_steps": 5, "step": 3}, None, False),  # its checkpoint is gone
        (
            {"max_steps": 5, "step": 3, "teacher_step": 7},
            {"step": 3, "teacher_step": 8},
            False,
        ),
        ({"max_steps": 5}, {"step": 3}, False),
    ],
)
def test_a_result_holds_while_it_would_come_out_the_same(result, origin, expected):
    assert holds(result, 5, origin) == expected


@pytest.mark.parametrize(
    "stage, teacher, teacher_stage, expected",
    [
        ("knn", "", "finetune", True),
        ("supervised", "", "finetune", False),
        ("distill", "", "finetune", True),
        ("distill", "", "supervised", False),
        ("distill", "/elsewhere", "finetune", False),
    ],
)
def test_what_comes_from_the_workdirs_own_pretraining(
    stage, teacher, teacher_stage, expected
):
    config = common.get_config()
    config.distill.teacher, config.distill.teacher_stage = teacher, teacher_stage
    assert of_own_pretraining(stage, config) == expected
