"""The points of a sweep and their seeds."""

import pytest
from sweeps import toy

from configs import common
from simclr_jax.errors import RequestError
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


def test_every_seed_is_one_that_a_run_takes():
    """2**32 would draw what 0 does: two runs that are one."""
    assert sweep_plan.seeds_of("0,4294967295") == [0, 2**32 - 1]
    with pytest.raises(RequestError, match=r"^--seeds: 4294967296 is not an integer"):
        sweep_plan.seeds_of("0,4294967296")
