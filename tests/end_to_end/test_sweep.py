"""Whole sweeps: a killed one goes on, a failed row is named, the table is collected."""

import json
import os
import re
import shutil
import signal
import time

import pytest
from tiny import PATIENCE, ROOT, launch, write_npz

import launch as launcher
from simclr_jax.stages import run as stages
from simclr_jax.sweep import run as sweep

RECIPE = f"--config={ROOT}/tests/sweep_recipe.py"


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


@pytest.fixture(scope="module")
def swept(npz, tmp_path_factory):
    """A sweep of two rows: killed, stopped by a signal, then run to its end."""
    workdir = tmp_path_factory.mktemp("sweeps") / "toy"
    flags = [RECIPE, f"--config.data.path={npz}", f"--workdir={workdir}", "--sweep"]
    flags += ["--seeds=0"]
    env = {"PYTHONPATH": f"{ROOT}/tests"}  # the recipe starts from tiny_recipe.py
    stops = []
    for step, number in ((3, signal.SIGKILL), (12, signal.SIGTERM)):
        process = launch(*flags, wait=False, **env)
        wait_for(process, workdir / "of-z/seed_0", step)
        os.kill(process.pid, number)
        _, error = process.communicate(timeout=PATIENCE)
        log = (workdir / "of-z/seed_0/log.txt").read_text()
        stops.append((process.returncode, error, log))
    done = launch(*flags, **env)
    return workdir, flags, stops, done


def wait_for(process, path, step):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        metrics = path / "metrics.jsonl"
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never reached step {step}")


def first_step(output):
    """The first step of pretraining that was reported."""
    return int(re.search(r"^pretrain  step (\d+)/60", output, re.M).group(1))


def test_a_killed_sweep_continues(swept):
    workdir, _, [(killed, _, first), (stopped, second, _)], done = swept
    assert killed == -signal.SIGKILL
    assert first_step(first) == 1
    assert stopped == 75
    line = "stopped: by a signal; run the same command again to continue"
    assert second.splitlines()[-1] == line
    assert first_step(second) > 3  # where the orphaned point saved its state
    assert first_step(done.stderr) > 12
    steps = [
        json.loads(x)["step"]
        for x in (workdir / "of-z/seed_0/metrics.jsonl").read_text().splitlines()
        if '"stage": "pretrain"' in x
    ]
    assert steps == list(range(1, 61))
    log = (workdir / "of-z/seed_0/log.txt").read_text()
    assert log.startswith(first)  # every attempt's output, one after the other
    assert log.count("SIGTERM: saving, then stopping") == 2
    assert "pretrain  step 60/60" in log


def test_a_row_that_fails_is_named_and_the_others_run(swept):
    workdir, _, _, done = swept
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert re.match(r"error: 1 of 2 failed: diverges seed 0 \(exit 3: .*not fin", error)
    log = workdir / "diverges/seed_0/log.txt"
    assert error.endswith(f"; see {log}")
    assert "not finite" in log.read_text()
    assert re.search(
        r"^sweep: 2/2: diverges seed 0; .* a point, ETA \d", done.stderr, re.M
    )
    results = json.loads((workdir / "of-z/seed_0/results.json").read_text())
    layers = results["probe"]["layers"]
    assert results["probe"]["features"] == "z"
    assert results["probe"]["pretrained"]["top1"] == layers["z"]
    text = (workdir / "table.md").read_text()
    assert text in done.stdout
    assert re.search(rf"^\| of-z +\| +{100 * layers['z']:.2f} \| +1 \|", text, re.M)
    assert re.search(r"^\| diverges +\| +no run \|", text, re.M)
    assert "Not finished: 1 of 2 runs (diverges seed 0)." in text
    assert "Published, not ours: nobody." in text
    page = (workdir / "report.html").read_text()
    assert f"{100 * layers['z']:.2f}" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not (workdir / "differences.svg").exists()  # of one row from itself


def test_what_is_finished_is_not_run_again(swept, monkeypatch, capsys):
    workdir, flags, _, _ = swept
    started = []

    def pretend(command, log):
        del log
        started.append(command[-1])
        return 9, "as if killed"

    monkeypatch.setattr(sweep, "launch", pretend)
    assert launcher.main(["launch.py", *flags]) == 1
    assert started == ["--index=1"]  # the failed one alone
    assert "diverges seed 0 (exit 9: as if killed)" in capsys.readouterr().err
    assert (workdir / "of-z/seed_0/results.json").exists()


@pytest.fixture
def kept(swept, tmp_path):
    """A sweep as a repository keeps it: results, neither data nor checkpoints."""
    point = tmp_path / "kept/of-z/seed_0"
    point.mkdir(parents=True)
    for name in ("config.json", "results.json"):
        shutil.copy(swept[0] / "of-z/seed_0" / name, point)
    return tmp_path / "kept"


def test_the_table_needs_results_only(swept, kept, capsys):
    workdir, _, _, _ = swept
    flags = [RECIPE, f"--workdir={kept}", "--sweep", "--table"]
    assert launcher.main(["launch.py", *flags, "--seeds=0"]) == 0
    assert (
        capsys.readouterr().out.rstrip() == (workdir / "table.md").read_text().rstrip()
    )
    assert launcher.main(["launch.py", *flags]) == 0  # seeds 0, 1 and 2
    assert "Not finished: 5 of 6" in capsys.readouterr().out
    # Results of another recipe are not counted as this one's.
    changed = [*flags, "--config.batch_size=8"]
    assert launcher.main(["launch.py", *changed]) == 2
    assert "config.batch_size" in capsys.readouterr().err


def test_one_point_by_its_index(swept, kept, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(stages, "run", lambda _, path: started.append(path))
    flags = [*swept[1], f"--workdir={kept}"]
    assert launcher.main(["launch.py", *flags, "--index=0"]) == 0
    assert "point 0 of 0 to 1: of-z seed 0 is finished" in capsys.readouterr().err
    assert not started  # results.json says enough: its checkpoints are gone
    assert launcher.main(["launch.py", *flags, "--index=1"]) == 0
    assert "point 1 of 0 to 1: diverges seed 0\n" in capsys.readouterr().err
    assert started == [str(kept / "diverges/seed_0")]
