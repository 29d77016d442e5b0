"""Whatever a service does in its process, the run goes on and ends in time.

A made-up package stands for W&B's: it does what the environment says.
"""

import importlib
import json
import os
import re
import signal
import threading
import time

import pytest
import tiny_recipe

from simclr_jax import processes, signals
from simclr_jax.config.rules import LOGGERS
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.experiment.loggers import Logger, apart, group
from simclr_jax.experiment.loggers.group import Group, run_name
from simclr_jax.experiment.workdir import Workdir

PACKAGE = """
import json, os, sys, time, types

def does(what):
    return what in os.environ["SERVICE"]

print("noise")
print("noise", file=sys.stderr)
if does("missing"):
    raise ImportError("no such library")
if does("slow"):
    time.sleep(60)

class Error(Exception):
    pass

def setup():
    settings = types.SimpleNamespace(mode=os.environ.get("WANDB_MODE", "online"))
    return types.SimpleNamespace(settings=settings)

def login(verify):
    if does("refuse"):
        raise Error("No API key.")

class Run:
    id, url, offline, step, config, got = "x", "https://there", False, 0, {}, []
    dir = "/there/files"

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
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
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
    expected = rf"warning: config\.loggers: wandb has failed, .* without it: {why}\."
    assert re.match(expected, warning)
    # The next run sends what is missing, and goes on with the same run there.
    (tmp_path / "run/checkpoints").mkdir()
    monkeypatch.setenv("SERVICE", "")
    Workdir(tmp_path / "run", config).open().close()
    got = json.loads((tmp_path / "got.json").read_text())
    assert [x["pretrain/step"] for x in got[:2]] == [2, 4]


@pytest.mark.parametrize("in_a_write", ["", '["write", "pretrain", 4, {"lo'])
def test_a_run_that_is_killed_leaves_all_that_it_recorded(config, tmp_path, in_a_write):
    """Its process goes on without it, and then ends."""
    workdir = Workdir(tmp_path / "run", config).open()
    logger = workdir._loggers._loggers[0]
    process = logger._process
    workdir.record("pretrain", "", 2, loss=0.5)
    logger._calls.put(in_a_write)
    logger._calls.put(None)  # closes its input, as the kernel does
    assert process.wait(20) == 0
    (row, code) = json.loads((tmp_path / "got.json").read_text())
    assert (row["pretrain/step"], code) == (2, 1)
    workdir._loggers = Group()
    workdir.close()


def test_a_process_that_does_not_read_does_not_stop_the_run(config, tmp_path):
    workdir = Workdir(tmp_path / "run", config).open()
    process = workdir._loggers._loggers[0]._process
    os.kill(process.pid, signal.SIGSTOP)
    # More than the kernel keeps for it.
    values = {f"{name:0100}": 0.5 for name in range(10_000)}
    record = threading.Thread(
        target=lambda: workdir.record("pretrain", "", 2, **values), daemon=True
    )
    record.start()
    record.join(20)
    waits = record.is_alive()
    os.kill(process.pid, signal.SIGCONT)
    workdir.close()
    assert not waits
    row, code = json.loads((tmp_path / "got.json").read_text())
    assert (len(row), code) == (10_001, 0)


def test_a_service_that_does_not_end_is_ended(config, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SERVICE", "hang")
    monkeypatch.setattr(group, "_STOP_SECONDS", 0.2)
    workdir = Workdir(tmp_path / "run", config).open()
    workdir.record("pretrain", "", 2, loss=0.5)
    # A signal comes while the end of a run waits.
    monkeypatch.setattr(signals, "_received", [15])
    began = time.monotonic()
    workdir.close()
    assert time.monotonic() - began < 20  # not a minute
    said = capfd.readouterr().err
    assert "did not send what was left" in said
    # The next run does not send what W&B has taken.
    assert said.endswith("What it did not upload is in /there: `wandb sync /there`\n")


def test_a_signal_ends_the_wait_for_the_start(config, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SERVICE", "slow")
    monkeypatch.setattr(signals, "_received", [15])
    began = time.monotonic()
    workdir = Workdir(tmp_path / "run", config).open()
    assert time.monotonic() - began < 20  # neither 60 s nor 120
    workdir.close("stopped")
    assert capfd.readouterr() == ("", "")


class Slow(Logger):
    def __init__(self, error=None):
        self.error, self.told = error, []

    def close(self, ended):
        self.told.append(ended)
        if self.error:
            raise self.error

    def sends(self):
        return True

    def end(self):
        self.told.append("end")


def test_all_are_told_before_one_is_waited_for(monkeypatch):
    monkeypatch.setattr(group, "_CLOSE_SECONDS", 0.5)
    loggers = [Slow() for _ in range(20)]
    began = time.monotonic()
    Group(loggers).close("finished")
    assert time.monotonic() - began < 5  # not 20 times half a second
    assert [logger.told for logger in loggers] == [["finished", "end"]] * 20


@pytest.mark.parametrize("ended", ["finished", "failed"])
def test_an_error_at_the_end_neither_skips_nor_hides(
    config, tmp_path, monkeypatch, ended
):
    monkeypatch.setattr(group, "_CLOSE_SECONDS", 0.1)
    config.loggers = ()
    workdir = Workdir(tmp_path / "run", config).open()
    loggers = [Slow(OSError("full")), Slow()]
    workdir._loggers = Group(loggers)
    if ended == "finished":
        with pytest.raises(OSError, match="full"):
            workdir.close(ended)
    else:  # the run has an error of its own
        workdir.close(ended)
    assert [logger.told for logger in loggers] == [[ended, "end"]] * 2
    Workdir(tmp_path / "run", config).open().close()  # it is not locked


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
    # A killed run's process may still have the lock.
    assert [x.name for x in (tmp_path / "run/loggers").iterdir()] == ["wandb.lock"]


def test_a_training_made_anew_without_the_logger_is_another_one(config, tmp_path):
    def probe(loggers, anew=False):
        config.loggers = loggers
        workdir = Workdir(tmp_path / "run", config).open()
        if anew:
            workdir.forget("probe", "pretrained")
        for step in (1, 2):
            workdir.record("probe", "pretrained", step, loss=1.0 + anew)
        workdir.close()

    probe(("wandb",))
    (tmp_path / "run/checkpoints").mkdir()
    probe((), anew=True)
    config.loggers = ("wandb",)
    Workdir(tmp_path / "run", config).open().close()
    got = json.loads((tmp_path / "got.json").read_text())
    name = "probe/pretrained-2"
    assert got == [{f"{name}/step": k, f"{name}/loss": 2.0} for k in (1, 2)] + [0]


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
