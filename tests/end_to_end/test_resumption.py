"""Runs that end early, and what continues them: bit for bit the uninterrupted run."""

import os
import re
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import PATIENCE, ROOT, launch, recipe
from tiny_runs import arrays, assert_part_of, losses, results

from simclr_jax import checkpoint


@pytest.mark.thorough
def test_max_steps_in_pieces_equal_a_straight_run(whole, npz, tmp_path):
    """Ends every stage early, then continues it: bit for bit the uninterrupted run."""
    workdir = tmp_path / "with space"
    first = launch(*recipe(npz), f"--workdir={workdir}", "--config.max_steps=5")
    assert first.returncode == 0, first.stderr
    assert results(workdir)["knn"]["step"] == 5
    second = launch(*recipe(npz), f"--workdir={workdir}")
    assert second.returncode == 0, second.stderr
    trained = arrays(workdir)
    assert trained.keys() == arrays(whole.workdir).keys()
    for stage, (step, trees) in arrays(whole.workdir).items():
        assert trained[stage][0] == step, stage
        jax.tree.map(np.testing.assert_array_equal, trained[stage][1], trees)


def stopped_at(point, npz, workdir, *flags):
    """A run that gets a signal at a point (tests/stopping_recipe.py)."""
    stopping = f"--config={ROOT}/tests/stopping_recipe.py:{point}"
    data = f"--config.data.path={npz}"
    return launch(stopping, data, f"--workdir={workdir}", *flags)


KILLED = [
    # A point, the stages asked for, and the checkpoints that the kill may leave: the
    # training does not wait for the newest save, but for the one before it.
    ("record/pretrain/8/SIGKILL", ("pretrain",), [["3", "6"], ["3", "6.tmp"]]),
    ("save/pretrain/9/SIGKILL", ("pretrain",), [["3", "6", "9.tmp"]]),
    (
        "record/finetune/random_init/4/SIGKILL",
        ("pretrain", "finetune"),
        [["3"], ["3.tmp"], []],
    ),
]


@pytest.mark.parametrize("point, stages, left", KILLED)
def test_killed_and_continued_equals_a_whole_run(
    whole, npz, tmp_path, point, stages, left
):
    """And with a half-written line on top."""
    workdir, asked = tmp_path / "killed", f"--config.stages={stages!r}"
    done = stopped_at(point, npz, workdir, asked)
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, *training, _, _ = point.split("/")
    parts = ["stages", *training] if training != ["pretrain"] else []
    folder = workdir.joinpath(*parts)
    found = folder / "checkpoints"
    assert (sorted(os.listdir(found)) if found.exists() else []) in left
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "pretrain", "variant": "", "st')
    again = launch(*recipe(npz), f"--workdir={workdir}", asked)
    assert again.returncode == 0, again.stderr
    assert_part_of(workdir, whole.workdir)


@pytest.mark.thorough
def test_a_signal_while_a_checkpoint_is_written(whole, npz, tmp_path):
    """That checkpoint is finished, and the steps taken meanwhile are saved too."""
    workdir, asked = tmp_path / "stopped", "--config.stages=('pretrain',)"
    done = stopped_at("save/pretrain/6/SIGTERM", npz, workdir, asked)
    assert done.returncode == 75, done.stderr
    assert "Traceback" not in done.stderr
    steps = checkpoint.steps(workdir / "checkpoints")
    assert 6 in steps
    assert sorted(os.listdir(workdir / "checkpoints"), key=int) == [*map(str, steps)]
    again = launch(*recipe(npz), f"--workdir={workdir}", asked)
    assert again.returncode == 0, again.stderr
    assert_part_of(workdir, whole.workdir)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_exits_75(whole, npz, tmp_path, name):
    """Between two checkpoints: the step that was under way is saved."""
    workdir, asked = tmp_path / "stopped", "--config.stages=('pretrain',)"
    done = stopped_at(f"record/pretrain/4/{name}", npz, workdir, asked)
    assert done.returncode == 75, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(workdir / "checkpoints")) == ["3", "4"]
    again = launch(*recipe(npz), f"--workdir={workdir}", asked)
    assert again.returncode == 0, again.stderr
    assert_part_of(workdir, whole.workdir)


def test_a_signal_while_packages_are_imported(npz, tmp_path):
    """Before anything could be saved: the exit code and the line are the same."""
    process = launch(*recipe(npz), f"--workdir={tmp_path / 'run'}", wait=False)
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.exists():
        process.kill()
        pytest.skip("no /proc to see what a process has loaded")
    while "jaxlib" not in maps.read_text():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, error
    assert "Traceback" not in error
    line = "stopped: by a signal; run the same command again to continue"
    assert error.splitlines()[-1] == line


@pytest.mark.thorough
def test_a_stream_continues_where_it_was(whole, npz, tmp_path):
    """In pieces, and the same images at every step as kept on the device.

    To rounding: the two steps are different programs.
    """
    workdir = tmp_path / "streamed"
    flags = [*recipe(npz), f"--workdir={workdir}", "--config.data.streaming=True"]
    flags += ["--config.stages=('pretrain',)"]
    for steps in (6, 0):
        done = launch(*flags, f"--config.max_steps={steps}")
        assert done.returncode == 0, done.stderr
    assert losses(workdir) == pytest.approx(losses(whole.workdir), rel=1e-3)


def test_divergence_exits_3_and_keeps_the_last_good_checkpoint(npz, tmp_path):
    workdir = tmp_path / "run"
    done = launch(*recipe(npz), f"--workdir={workdir}", "--config.optimizer.lr=1e30")
    assert done.returncode == 3, done.stderr
    assert "not finite" in done.stderr
    _step, items, _ = checkpoint.restore(workdir / "checkpoints", {"params": None})
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(items))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line_and_exit_1(npz, tmp_path, capsys):
    import launch as launcher

    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / ".config.json.tmp").symlink_to("/dev/full")
    assert launcher.main(["launch.py", *recipe(npz), f"--workdir={workdir}"]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*No space.*'{workdir}/config\.json'\n", error), error


def test_two_runs_on_one_workdir(npz, tmp_path):
    import fcntl

    workdir = tmp_path / "run"
    workdir.mkdir()
    with (workdir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = launch(*recipe(npz), f"--workdir={workdir}")
    assert done.returncode == 2
    assert "another run" in done.stderr


@pytest.mark.thorough
def test_two_processes_may_share_one_new_compilation_cache(npz, tmp_path):
    """They compile and write the same programs at the same time."""
    flags = [*recipe(npz), "--config.stages=('pretrain',)", "--config.max_steps=2"]
    flags += ["--config.probe.every_epochs=0"]
    env = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    folders = [tmp_path / "a", tmp_path / "b"]
    both = [launch(*flags, f"--workdir={x}", wait=False, **env) for x in folders]
    for process in both:
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, error
    assert any((tmp_path / "cache").iterdir())
    assert_part_of(*folders)
