"""Every stage on the list has its file; a run that fails leaves its workdir free."""

import inspect

import pytest
import tiny_recipe
from tiny import write_npz

from simclr_jax.config.stages import STAGES
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.report.table import ROWS
from simclr_jax.stages import run as stages


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_a_function_of_its_name(name):
    function = stages.function(name)
    assert list(inspect.signature(function).parameters) == ["experiment"]
    # Without an entry: whether it wrote something.
    records = inspect.signature(function).return_annotation is not bool
    assert records == STAGES[name].records


def test_the_table_has_rows_of_stages_only():
    """All that give an accuracy; what pretraining gives is below the table."""
    recorded = {name for name, stage in STAGES.items() if stage.records}
    assert set(ROWS) == recorded - {"pretrain"}


def test_an_error_before_the_first_stage_closes_the_workdir(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError("nobody reads stderr")

    monkeypatch.setattr(stages.outline, "show", fails)
    config, ended = tiny_recipe.get_config(), []
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    close = Workdir.close
    monkeypatch.setattr(
        Workdir, "close", lambda self, how: (ended.append(how), close(self, how))
    )
    with pytest.raises(OSError, match="nobody reads"):
        stages.run(config, str(tmp_path / "run"))
    assert ended == ["failed"]
    Workdir(tmp_path / "run", config).open().close("finished")
