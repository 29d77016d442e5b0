"""The points of a sweep and their seeds."""

import pytest
from sweeps import toy

from configs import common
from simclr_jax.errors import RequestError
from simclr_jax.experiment import preflight
from simclr_jax.sweep import plan as sweep_plan


def test_points_are_all_rows_with_the_first_seed_then_with_the_next(tmp_path):
    config = common.get_config()
    points = sweep_plan.points(toy(), config, [4, 0], tmp_path)
    assert [(p.row, p.seed) for p in points] == [
        ("one", 4),
        ("two", 4),
        ("one", 0),
        ("two", 0),
    ]
    assert points[1].path == tmp_path / "two/seed_4"
    assert [p.config.optimizer.lr for p in points] == [1e-3, 0.5, 1e-3, 0.5]
    assert [p.config.seed for p in points] == [4, 4, 0, 0]
    assert config.optimizer.lr == 1e-3  # the recipe's own is left alone


def test_a_points_stages_see_its_rows_size_or_that_of_its_older_run(tmp_path):
    config = common.get_config()
    config.pretrained = "old/{distill.augment.size}"
    older = tmp_path / "large/seed_0"
    (older / "checkpoints").mkdir(parents=True)
    (older / "config.json").write_text('{"finetune": {"augment": {"size": 96}}}')
    rows = {"one": {}, "large": {"augment.size": 64}}
    points = sweep_plan.points(toy(rows=rows), config, [0, 7], tmp_path)
    assert [p.config.finetune.augment.size for p in points] == [32, 96, 32, 64]
    assert [p.config.distill.augment.size for p in points] == [32, 64, 32, 64]
    assert points[1].config.pretrained == "old/64"
    assert config.finetune.augment.size is None  # the recipe's own is left alone


def test_every_seed_is_one_that_a_run_takes():
    """2**32 would draw what 0 does: two runs that are one."""
    assert sweep_plan.seeds_of("0,4294967295") == [0, 2**32 - 1]
    with pytest.raises(RequestError, match=r"^--seeds: 4294967296 is not an integer"):
        sweep_plan.seeds_of("0,4294967296")


def test_a_point_takes_the_encoder_of_its_own_row_and_seed(tmp_path):
    config = common.get_config()
    config.pretrained = "old/{projector.layers}/{row}/seed_{seed}/{other}"
    points = sweep_plan.points(
        toy(rows={"one": {}, "two": {"projector.layers": 3}}), config, [0, 7], tmp_path
    )
    assert [p.config.pretrained for p in points] == [
        "old/2/one/seed_0/{other}",
        "old/3/two/seed_0/{other}",
        "old/2/one/seed_7/{other}",
        "old/3/two/seed_7/{other}",
    ]
    assert config.pretrained == "old/{projector.layers}/{row}/seed_{seed}/{other}"


@pytest.mark.parametrize("pretrained, checked", [("old", 2), ("old/{seed}", 4)])
def test_every_encoder_is_checked_before_the_sweep(
    tmp_path, monkeypatch, pretrained, checked
):
    config = common.get_config()
    config.stages, config.pretrained = ("probe",), pretrained
    seen = []
    monkeypatch.setattr(
        preflight, "check", lambda config, path: seen.append(config.pretrained)
    )
    points = sweep_plan.points(toy(), config, [0, 7], tmp_path)
    sweep_plan.check(toy(), points, [], to_run=True)
    assert len(seen) == checked
