"""Every stage on the list has its file."""

import inspect

import pytest

from simclr_jax.config.stages import STAGES
from simclr_jax.report.table import ROWS
from simclr_jax.stages import run as stages


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_a_function_of_its_name(name):
    function = stages.function(name)
    assert list(inspect.signature(function).parameters) == ["experiment"]
    records = inspect.signature(function).return_annotation is not None
    assert records == STAGES[name].records


def test_the_table_has_rows_of_stages_only():
    """All that give an accuracy; what pretraining gives is below the table."""
    recorded = {name for name, stage in STAGES.items() if stage.records}
    assert set(ROWS) == recorded - {"pretrain"}
