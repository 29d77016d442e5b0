"""MLflow with a folder as its store: what its own client reads there afterwards."""

import os
import warnings

import pytest

from simclr_jax.errors import RequestError
from simclr_jax.experiment.loggers import Run
from simclr_jax.experiment.loggers.once import Once

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    before = dict(os.environ)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    mlflow = pytest.importorskip(
        "mlflow", reason="mlflow-skinny is not installed: extra loggers"
    )
    from simclr_jax.experiment.loggers import mlflow as ours

    os.environ.clear()
    os.environ |= before


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "photos")
    mlflow.set_tracking_uri(None)
    yield
    mlflow.end_run()


def logger(folder, said, **fields):
    run = Run("digits", str(folder), fields, None, 0)
    file = folder / "mlflow.json"
    return Once(ours.Service, run, file, lambda its: said.append(its.where))


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_run_and_its_continuation(tmp_path):
    said, many = [], {f"f{k}": k for k in range(250)}
    once = logger(tmp_path, said, **many, crop=(0.5, 1.0), max_steps=6)
    once.begin([], {})
    for step in (2, 4, 6):
        once.write("pretrain", step, {"loss": 1 / step})
    once.close("stopped")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("photos")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"

    once = logger(tmp_path, said, **many, crop=(0.5, 1.0), max_steps=8)
    once.begin([], {})
    once.cut("pretrain", 4, 1)
    for step in (6, 8):
        once.write("pretrain", step, {"loss": 1 / step})
    once.summary({"probe/pretrained/top1": 0.75}, 8)
    once.close("finished")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("digits", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "pretrain/loss")
    assert {(x.step, x.value) for x in history} == {(k, 1 / k) for k in (2, 4, 6, 8)}
    assert len(history) == 4
    assert run.data.metrics["probe/pretrained/top1"] == 0.75
    # The recipe that it began with, all of it.
    assert run.data.params == {k: str(v) for k, v in many.items()} | {
        "crop": "(0.5, 1.0)",
        "max_steps": "6",
    }
    assert said == [f"{mlflow.get_tracking_uri()}, run {run.info.run_id}"] * 2


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_parameters_that_did_not_get_there(tmp_path, monkeypatch):
    """They end that run's logger; the next one goes on with the same run of MLflow."""
    many, log_params = {f"f{k}": k for k in range(250)}, mlflow.log_params

    def first_part_only(params):
        if "f100" in params:
            raise ConnectionError("no network")
        log_params(params)

    monkeypatch.setattr(mlflow, "log_params", first_part_only)
    with pytest.raises(ConnectionError):
        logger(tmp_path, [], **many).write("pretrain", 1, {"loss": 1.0})
    mlflow.end_run("FAILED")
    monkeypatch.setattr(mlflow, "log_params", log_params)
    once = logger(tmp_path, [], **many)
    once.write("pretrain", 1, {"loss": 1.0})
    once.close("finished")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("photos")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {k: str(v) for k, v in many.items()}


def test_a_folder_that_mlflow_refuses(monkeypatch):
    ours.check()
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///elsewhere")
    with pytest.raises(RequestError, match=r"file:///elsewhere; .*ALLOW_FILE_STORE"):
        ours.check()
