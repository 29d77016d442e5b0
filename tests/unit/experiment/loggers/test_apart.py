"""Whatever a service does in its process, the run goes on and ends in time.

A made-up package stands for W&B's: it does what the environment says.
"""

import importlib
import json
import time

import pytest
import tiny_recipe

from simclr_jax import processes, signals
from simclr_jax.config.rules import LOGGERS
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.experiment.loggers import apart
from simclr_jax.experiment.loggers.group import Group, run_name
from simclr_jax.experiment.workdir import Workdir

PACKAGE = """
import json, os, sys, time

def does(what):
    return what in os.environ["SERVICE"]

print("noise")
print("noise", file=sys.stderr)
if does("missing"):
    raise ImportError("no such library")

class Error(Exception):
    pass

def login(verify):
    if does("refuse"):
        raise Error("No API key.")

class Run:
    id, url, offline, step, config, got = "x", "https://there", False, 0, {}, []

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values, **kwargs):
        if does("fail"):
            raise ConnectionError("no network\\nat all")
        if does("crash"):
            os._exit(7)
        self.got.append(values)

    def mark_preempting(self):
        self.got.append("preempting")

    def finish(self, exit_code):
        if does("hang"):
            time.sleep(60)
        with open(os.environ["GOT"], "w") as file:
            json.dump([*self.got, exit_code], file)

def init(**kwargs):
    print("noise")
    return Run()

def Settings(**kwargs):
    pass
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("GOT", str(tmp_path / "got.json"))
    monkeypatch.setenv("SERVICE", "")
    config = tiny_recipe.get_config()
    config.data.path, config.loggers = "x.npz", ("wandb",)
    return config


def run(config, path, ended="finished"):
    workdir = Workdir(path, config).open()
    for step in (2, 4):
        workdir.record("pretrain", "", step, loss=0.5)
    workdir.close(ended)
    return [x["step"] for x in workdir.metrics()]


@pytest.mark.parametrize(
    "ended, last", [("finished", [0]), ("failed", [1]), ("stopped", ["preempting", 75])]
)
def test_all_is_sent_before_it_closes(config, tmp_path, capfd, ended, last):
    assert run(config, tmp_path / "run", ended) == [2, 4]
    got = json.loads((tmp_path / "got.json").read_text())
    assert [x["pretrain/step"] for x in got[:2]] == [2, 4]
    assert got[2:] == last
    assert capfd.readouterr() == ("", "wandb: https://there\n")


@pytest.mark.parametrize(
    "does, why",
    [("fail", "ConnectionError: no network at all"), ("crash", "its .* exit code 7")],
)
def test_a_service_that_fails_does_not_end_the_run(
    config, tmp_path, monkeypatch, capfd, does, why
):
    monkeypatch.setenv("SERVICE", does)
    workdir = Workdir(tmp_path / "run", config).open()
    workdir.record("pretrain", "", 2, loss=0.5)
    workdir._loggers._loggers[0]._process.wait()
    workdir.record("pretrain", "", 4, loss=0.5)
    workdir.close()
    said = capfd.readouterr()
    assert said.out == ""
    address, warning = said.err.splitlines()
    assert address == "wandb: https://there"
    assert warning.startswith("warning: config.loggers: wandb has failed, ")
    # The next run sends what is missing, and goes on with the same run there.
    (tmp_path / "run/checkpoints").mkdir()
    monkeypatch.setenv("SERVICE", "")
    Workdir(tmp_path / "run", config).open().close()
    got = json.loads((tmp_path / "got.json").read_text())
    assert [x["pretrain/step"] for x in got[:2]] == [2, 4]


def test_a_run_that_is_killed_leaves_all_that_it_recorded(config, tmp_path):
    """Its process goes on without it, and then ends."""
    workdir = Workdir(tmp_path / "run", config).open()
    process = workdir._loggers._loggers[0]._process
    workdir.record("pretrain", "", 2, loss=0.5)
    process.stdin.close()  # as the kernel does
    assert process.wait(20) == 0
    (row, code) = json.loads((tmp_path / "got.json").read_text())
    assert (row["pretrain/step"], code) == (2, 1)
    workdir._loggers = Group()
    workdir.close()


def test_a_service_that_does_not_end_is_ended(config, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SERVICE", "hang")
    monkeypatch.setattr(apart, "_STOP_SECONDS", 0.2)
    workdir = Workdir(tmp_path / "run", config).open()
    workdir.record("pretrain", "", 2, loss=0.5)
    # A signal comes while the end of a run waits.
    monkeypatch.setattr(signals, "_received", [15])
    began = time.monotonic()
    workdir.close()
    assert time.monotonic() - began < 20  # not a minute
    assert "did not send what was left" in capfd.readouterr().err


def test_settings_that_it_refuses_end_the_run_before_anything_is_written(
    config, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("SERVICE", "refuse")
    expected = (
        r"^config\.loggers: wandb: No API key\. .*WANDB_MODE.*, or leave wandb out$"
    )
    with pytest.raises(RequestError, match=expected):
        Workdir(tmp_path / "run", config).open()
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr() == ("", "")


def test_a_package_that_is_not_there(config, tmp_path, monkeypatch):
    monkeypatch.setenv("SERVICE", "missing")
    expected = r"^config\.loggers: wandb can't be imported \(no such .*\[loggers\]"
    with pytest.raises(RequestError, match=expected):
        Workdir(tmp_path / "run", config).open()
    # Not the package, but the folder where W&B has written from here.
    (tmp_path / "packages/wandb.py").unlink()
    (tmp_path / "packages/wandb").mkdir()
    monkeypatch.setattr(apart.sys, "path", [str(tmp_path / "packages")])
    monkeypatch.delitem(apart.sys.modules, "wandb", raising=False)
    importlib.invalidate_caches()
    expected = r"^config\.loggers: wandb is not installed; .*\[loggers\].*leave wandb"
    with pytest.raises(RequestError, match=expected):
        Workdir(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_what_is_off_gets_nothing_and_lacks_it_later(config, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(config, tmp_path / "run")
    (tmp_path / "run/checkpoints").mkdir()
    assert not (tmp_path / "got.json").exists()
    monkeypatch.delenv("WANDB_MODE")
    Workdir(tmp_path / "run", config).open().close()
    got = json.loads((tmp_path / "got.json").read_text())
    assert [x["pretrain/step"] for x in got[:2]] == [2, 4]


def test_a_workdir_that_is_refused_leaves_no_process(config, tmp_path, monkeypatch):
    started = []
    popen = apart.subprocess.Popen
    monkeypatch.setattr(
        apart.subprocess,
        "Popen",
        lambda *a, **k: started.append(popen(*a, **k)) or started[-1],
    )
    config.loggers = ()
    other = Workdir(tmp_path / "run", config).open()
    config.loggers = ("wandb",)
    with pytest.raises(RequestError, match="another run"):
        Workdir(tmp_path / "run", config).open()
    other.close()
    assert [process.poll() is not None for process in started] == [True]


def test_only_process_0_logs(config, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "first", lambda: False)
    monkeypatch.setattr(apart.subprocess, "Popen", None)
    Workdir(tmp_path / "run", config)._loggers.open()


def test_another_experiment_in_the_workdir_is_another_run(config, tmp_path):
    run(config, tmp_path / "run")
    assert (tmp_path / "run/loggers/wandb.json").exists()
    config.loggers = ()  # nothing was saved, so the workdir begins anew
    Workdir(tmp_path / "run", config).open().close()
    assert not (tmp_path / "run/loggers").exists()


@pytest.mark.parametrize("value", [("wandb", "wandb"), ("comet",), (3,)])
def test_loggers_that_do_not_exist_are_refused(config, value):
    config.loggers = value
    with pytest.raises(RequestError, match=r"^config\.loggers: .*wandb, mlflow"):
        validate(config)
    config.loggers = LOGGERS
    validate(config)


def test_the_runs_name(tmp_path):
    assert run_name(tmp_path / "photos") == "photos"
    assert run_name(tmp_path / "study/lars/seed_0") == "lars/seed_0"
    assert run_name(tmp_path / "a" / "..") == tmp_path.name
