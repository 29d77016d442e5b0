"""A point's results.json: when the point is finished, and when the file is damaged."""

import json

import pytest
from sweeps import toy

from configs import common
from simclr_jax.errors import RequestError
from simclr_jax.sweep import plan as sweep_plan
from simclr_jax.sweep import results as sweep_results


@pytest.mark.parametrize("text", ["{", "[]", '{"probe": {"step": 8}}'])
def test_a_points_damaged_results_are_named(tmp_path, text):
    point, _ = sweep_plan.points(toy(), common.get_config(), [0], tmp_path)
    assert sweep_results.results(point) is None
    point.path.mkdir(parents=True)
    (point.path / "results.json").write_text(text)
    named = rf"^--workdir: .*{point.path}/results\.json"
    with pytest.raises(RequestError, match=named):
        sweep_results.results(point)


def test_a_points_result_without_its_max_steps_is_not_finished(tmp_path):
    point, _ = sweep_plan.points(toy(), common.get_config(), [0], tmp_path)
    point.path.mkdir(parents=True)
    record = {"config": point.config.to_dict(), "pretrain": {"loss": 1}}
    (point.path / "results.json").write_text(json.dumps(record))
    assert sweep_results.results(point) is None
