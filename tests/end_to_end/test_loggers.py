"""A whole run that is killed and continued, as MLflow's own files show it."""

import signal

import pytest
from tiny import ROOT, launch, recipe
from tiny_runs import lines, results

pytestmark = pytest.mark.thorough
pytest.importorskip("mlflow", reason="mlflow-skinny is not installed: extra loggers")


def points(store):
    """`{(metric, step): [values]}` of the one run in a folder of MLflow's."""
    (run,) = (path.parent for path in store.glob("*/*/metrics"))
    found = {}
    for path in (run / "metrics").rglob("*"):
        for line in path.read_text().splitlines() if path.is_file() else ():
            _, value, step = line.split()
            name = str(path.relative_to(run / "metrics"))
            found.setdefault((name, int(step)), []).append(float(value))
    return found


def test_a_run_that_was_killed_has_each_number_once(npz, tmp_path):
    workdir, store = tmp_path / "run", tmp_path / "store"
    asked = ("--config.stages=('pretrain','knn')", "--config.loggers=mlflow")
    settings = {
        "MLFLOW_TRACKING_URI": store.as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    stopping = f"--config={ROOT}/tests/stopping_recipe.py:record/pretrain/8/SIGKILL"
    data = f"--config.data.path={npz}"
    done = launch(stopping, data, f"--workdir={workdir}", *asked, **settings)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = launch(*recipe(npz), f"--workdir={workdir}", *asked, **settings)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("mlflow: file://") == 1
    assert "warning: config.loggers" not in again.stderr

    sent = points(store)
    assert {len(values) for values in sent.values()} == {1}
    top1 = results(workdir)["knn"]["top1"]
    assert sent.pop(("knn/top1", 20)) == [top1]
    clock = ("seconds", "images_per_second")  # of the first time
    recorded = {
        (f"pretrain/{name}", line["step"]): [value]
        for line in lines(workdir)
        for name, value in line.items()
        if name not in ("stage", "variant", "step", *clock) and value is not None
    }
    assert {k: v for k, v in sent.items() if not k[0].endswith(clock)} == recorded
