"""Each argument of simclr_jax.data has a field, which the message names."""

import pytest
import tiny_recipe
from tiny import write_npz

from simclr_jax import data
from simclr_jax.errors import DataError, DivergedError, RequestError
from simclr_jax.experiment import preflight

FIELDS = {
    "name": "config.data.name",
    "path": "config.data.path",
    "data_dir": "config.data.data_dir",
    "download": "config.data.download",
    "limit": "config.data.limit",
    "stored_size": "config.data.stored_size",
    "split": "config.data.*_split",
    "batch_size": "config.batch_size",
    "label_file": "config.finetune.label_file",
}


@pytest.mark.parametrize("argument, field", FIELDS.items())
def test_an_argument_becomes_its_field(argument, field):
    with (
        pytest.raises(RequestError) as caught,
        preflight.naming_fields(),
    ):
        raise DataError(argument, "7 is wrong; set 8")
    assert str(caught.value) == f"{field}: 7 is wrong; set 8"
    assert isinstance(caught.value.__cause__, DataError)


def test_the_field_can_be_said():
    with (
        pytest.raises(RequestError, match=r"^config\.probe\.batch_size: 7 is wrong$"),
        preflight.naming_fields(batch_size="probe.batch_size"),
    ):
        raise DataError("batch_size", "7 is wrong")


@pytest.mark.parametrize(
    "advice, setting",
    [
        ("`download=True`", "--config.data.download=True"),
        ("`data_dir`", "--config.data.data_dir"),
        ("`limit`", "config.data.limit"),
        ("`label_fraction`", "config.finetune.label_fraction"),
        ("`image`", "`image`"),  # a feature of TFDS
    ],
)
def test_what_a_message_advises_becomes_what_to_type(advice, setting):
    with pytest.raises(RequestError) as caught, preflight.naming_fields():
        raise DataError("path", f"take {advice} or not")
    assert str(caught.value) == f"config.data.path: take {setting} or not"


@pytest.mark.parametrize("error", [RequestError("x"), DivergedError("x"), OSError()])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, preflight.naming_fields():
        raise error
    assert caught.value is error


def test_a_library_call_names_its_own_argument():
    with pytest.raises(
        DataError, match=r"^path: /nowhere\.npz does not exist$"
    ) as caught:
        data.load("npz", "train", path="/nowhere.npz")
    assert caught.value.argument == "path"
    assert caught.value.message == "/nowhere.npz does not exist"


def test_a_run_names_the_field(tmp_path):
    """In preflight.check, and wherever else in a run a data set fails."""
    config = tiny_recipe.get_config()
    config.data.path = str(tmp_path / "absent.npz")
    with pytest.raises(
        RequestError, match=r"^config\.data\.path: .*absent\.npz does not"
    ):
        preflight.check(config, tmp_path / "run")


def test_a_stream_that_fails_in_training_names_the_field(tmp_path, monkeypatch):
    from simclr_jax.stages import pretrain
    from simclr_jax.stages import run as stages

    def failing(experiment):
        raise DataError("data_dir", "cannot read it; `download=True`")

    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    monkeypatch.setattr(pretrain, "pretrain", failing)
    message = r"^config\.data\.data_dir: cannot read it; --config\.data\.download=True$"
    with pytest.raises(RequestError, match=message):
        stages.run(config, str(tmp_path / "run"))
