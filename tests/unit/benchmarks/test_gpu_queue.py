"""The queue of GPU runs, with a launch.py that does as it is told in place of ours."""

import json
import signal
import time
from threading import Thread

import pytest

from benchmarks import gpu_queue
from benchmarks.gpu_queue import Run

# --wait sleeps until SIGTERM and then ends as launch.py does.
SCRIPT = """
import json, pathlib, signal, sys, time
flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
workdir = pathlib.Path(flags["workdir"])
if "row" in flags:
    workdir = workdir / flags["row"] / "seed_0"
    workdir.mkdir(parents=True, exist_ok=True)
if "wait" in flags:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print("waiting", flush=True)
    (workdir / "results.json").write_text("{}")
    time.sleep(60)
done = (workdir / "results.json").exists()
(workdir / "results.json").write_text(json.dumps(flags | {"done": done}))
(workdir / "checkpoint").write_text("large")
sys.exit(int(flags.get("exit", 0)))
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A project whose launch.py is SCRIPT; returns what runs the queue there."""
    (tmp_path / "launch.py").write_text(SCRIPT)
    (tmp_path / "other.py").write_text("print('a table')")
    monkeypatch.setattr(gpu_queue, "ROOT", tmp_path)
    folders = [f"--workdir={tmp_path}/work", f"--kept={tmp_path}/kept"]

    def call(*runs, minutes=5, flags=()):
        return gpu_queue.main([f"--minutes={minutes}", *folders, *flags], runs)

    return tmp_path, call


def test_a_finished_run_is_kept_without_its_checkpoints_and_not_run_again(house):
    folder, call = house
    run = Run("a", 1, ("launch.py", "--say=x"))
    assert call(run) == 0
    kept = folder / "kept/a"
    results = json.loads((kept / "results.json").read_text())
    assert results["say"] == "x"
    assert {path.name for path in kept.iterdir()} == {
        *("results.json", "log.txt", "run.json")
    }
    record = json.loads((kept / "run.json").read_text())
    assert record["command"] == ["launch.py", "--say=x"]
    assert "jax" in record["versions"]
    (kept / "results.json").unlink()
    assert call(run) == 0
    assert not (kept / "results.json").exists()  # it did not run


def test_data_and_flags_reach_launch_but_not_a_benchmark(house):
    folder, call = house
    runs = Run("a", 1, ("launch.py",)), Run("b", 1, ("other.py",))
    (folder / "x.npz").touch()
    assert call(*runs, flags=[f"--data={folder}/x.npz", "--", "--config.epochs=1"]) == 0
    results = json.loads((folder / "kept/a/results.json").read_text())
    assert results["config.data.path"] == f"{folder}/x.npz"
    assert results["config.epochs"] == "1"
    assert (folder / "kept/b/log.txt").read_text() == "a table\n"


def test_the_time_stops_a_training_which_is_open_then(house, monkeypatch):
    folder, call = house
    monkeypatch.setattr(gpu_queue, "_LEAST", 0.0)
    monkeypatch.setattr(gpu_queue, "_GRACE", 20.0)
    long = Run("long", 99, ("launch.py", "--wait"))
    assert call(long, minutes=22 / 60) == 0
    assert "waiting" in (folder / "kept/long/log.txt").read_text()
    assert not gpu_queue.done(long, folder / "kept")


def test_ctrl_c_lets_the_run_save_and_keeps_what_it_has(house, monkeypatch):
    """The run sees only the queue's own signal: a second one would end it unsaved."""
    folder, call = house
    monkeypatch.setattr(gpu_queue, "_GRACE", 30.0)
    # A shell's background job, as the tests may be, begins with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = folder / "work/long/log.txt"

    def interrupt():
        while not (log.exists() and "waiting" in log.read_text()):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    Thread(target=interrupt).start()
    with pytest.raises(SystemExit) as end:
        call(Run("long", 1, ("launch.py", "--wait")), Run("next", 1, ("launch.py",)))
    assert end.value.code == 75
    assert (folder / "kept/long/results.json").is_file()
    assert not (folder / "work/next").exists()


def test_a_relative_workdir_is_the_callers(house, tmp_path_factory, monkeypatch):
    """The runs start in the project's folder."""
    folder, _ = house
    caller = tmp_path_factory.mktemp("caller")
    monkeypatch.chdir(caller)
    flags = ["--workdir=work", "--kept=kept", "--minutes=5"]
    assert gpu_queue.main(flags, [Run("a", 1, ("launch.py",))]) == 0
    assert (caller / "work/a/checkpoint").is_file()
    assert (caller / "kept/a/results.json").is_file()
    assert not (folder / "work").exists()


def test_only_what_fits_is_started(house):
    folder, _ = house
    runs = [
        Run("long_benchmark", 10, ("other.py",)),  # can't be stopped
        Run("long_training", 10, ("launch.py",)),
        Run("short", 2, ("other.py",)),
    ]
    names = [run.name for run in gpu_queue.fitting(runs, folder / "kept", 5)]
    assert names == ["long_training", "short"]
    assert [*gpu_queue.fitting(runs, folder / "kept", 1.9)] == []


@pytest.mark.parametrize("minutes", [5, 0.9])
def test_a_failed_run_fails_the_queue_and_stays_open(house, monkeypatch, minutes):
    """In the last minute too."""
    monkeypatch.setattr(gpu_queue, "_LEAST", 0.0)
    folder, call = house
    run = Run("a", 1, ("launch.py", "--exit=2"))
    assert call(run, minutes=minutes) == 1
    assert not gpu_queue.done(run, folder / "kept")


def test_a_sweeps_finished_points_come_back_to_a_bare_machine(house):
    folder, call = house
    point = folder / "kept/study/row/seed_0"
    point.mkdir(parents=True)
    (point / "results.json").write_text("{}")
    assert call(Run("study", 1, ("launch.py", "--row=row"))) == 0
    assert json.loads((point / "results.json").read_text())["done"]


def test_an_unknown_name_is_said(house):
    _, call = house
    with pytest.raises(SystemExit, match="no run b"):
        call(Run("a", 1, ("launch.py",)), flags=["--only=a,b"])


def test_the_list_shows_what_is_open(house, capsys):
    _, call = house
    first, second = Run("a", 1, ("launch.py",)), Run("b", 7, ("launch.py",))
    call(first)
    capsys.readouterr()
    call(first, second, flags=["--list"])
    done, still_open, total = capsys.readouterr().out.splitlines()
    assert done.startswith("done")
    assert still_open.startswith("open")
    assert total.startswith("7 minutes")


def test_the_runs_have_names_of_their_own():
    names = [run.name for run in gpu_queue.RUNS]
    assert len(set(names)) == len(names)
