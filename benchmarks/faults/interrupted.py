"""Runs that are stopped, killed, or find the disk full."""

import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import tiny
import tiny_runs
from end_to_end import test_processes as pairs

from benchmarks.faults.lab import Ended, Kind, Lab, Wrong, after_record

SIGNALS = ("SIGTERM", "SIGINT")
# A signal may find Python itself starting. It takes so many seconds of CPU time at most
# to reach our first line; docs/reliability.md has what was measured.
PYTHON_STARTS = 0.04


def _point(lab: Lab, rng: random.Random) -> str:
    """A seeded step of any training, in the words of tests/stopping_recipe.py."""
    lines = [x for x in tiny_runs.lines(lab.whole) if "loss" in x]
    stage = rng.choice(sorted({(x["stage"], x["variant"]) for x in lines}))
    steps = [x["step"] for x in lines if (x["stage"], x["variant"]) == stage]
    return "/".join([*filter(None, stage), str(rng.choice(sorted(set(steps))))])


def _stopping(lab: Lab, point: str) -> list[str]:
    recipe = f"--config={tiny.ROOT}/tests/stopping_recipe.py:record/{point}"
    return [recipe, f"--config.data.path={lab.npz}"]


def stop(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    point = f"{_point(lab, rng)}/{SIGNALS[number % 2]}"
    run = folder / "run"
    lab.launch(*_stopping(lab, point), workdir=run).require(75)
    lab.launch(*lab.flags(), workdir=run).require(0)
    lab.equals_whole(run)
    return point


def _moment(lab: Lab, rng: random.Random) -> tuple[int, float]:
    """After so many lines of metrics.jsonl, so many seconds."""
    count = len(tiny_runs.lines(lab.whole))
    return rng.randrange(count + 1), rng.uniform(0, rng.choice([0.02, 0.3, 3]))


def kill(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """Twice, if the first kill leaves something to do."""
    run, said = folder / "run", []
    for _ in range(2):
        count, delay = _moment(lab, rng)
        hurt = after_record(run, count, delay, signal.SIGKILL)
        done = lab.launch(*lab.flags(), workdir=run, interrupt=hurt)
        if done.code not in (0, -signal.SIGKILL):
            done.require(0)
        said.append(f"record {count} + {delay:.2f} s: {done.code}")
    lab.launch(*lab.flags(), workdir=run).require(0)
    lab.equals_whole(run)
    return "; ".join(said)


def phase(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    count, delay = _moment(lab, rng)
    if number % 4 == 0:  # while packages are imported, the data are looked at, ...
        count, delay = 0, rng.uniform(0.5, 5)
    name, run = SIGNALS[number % 2], folder / "run"
    hurt = after_record(run, count, delay, signal.Signals[name])
    done = lab.launch(*lab.flags(), workdir=run, interrupt=hurt).require(0, 75)
    lab.launch(*lab.flags(), workdir=run).require(0)
    lab.equals_whole(run)
    return f"{name} at record {count} + {delay:.2f} s: {done.code}"


def early(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """After 0, 5, ... 200 ms of a run; after 0, 10, ... 400 ms of --version."""
    step = 0.01 if number >= 82 else 0.005
    place = 17 * number % 41  # the first few are far apart
    delay, name = step * place, SIGNALS[number // 41 % 2]
    flags = ["--version"] if number >= 82 else lab.flags()
    used: list[float] = []

    def interrupt(process: Any) -> None:
        time.sleep(delay)
        used.append(_cpu_seconds(process.pid))
        process.send_signal(signal.Signals[name])  # does nothing if it has ended

    done = lab.launch(*flags, workdir=folder / "run", interrupt=interrupt)
    plain = {"SIGTERM": (-signal.SIGTERM,), "SIGINT": (-signal.SIGINT, 1)}[name]
    if done.code in plain:
        # Python's own answer, KeyboardInterrupt perhaps, from before our first line.
        ours = "simclr_jax" in done.stderr or (folder / "run").exists()
        if ours or used[0] > PYTHON_STARTS:
            raise Wrong(f"after {1e3 * used[0]:.0f} ms of CPU time: {done.tail()}")
    else:
        done.require(0, 75)
    about = f"{name} after {1e3 * delay:.0f} ms, {1e3 * used[0]:.0f} ms of CPU time"
    return f"{about}{', --version' if number >= 82 else ''}: {done.code}"


def _cpu_seconds(process: int) -> float:
    """What a process has used of a CPU; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def full_disk(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """No file may be longer than so many bytes, or a file system has so many left."""
    run, size = folder / "run", int(10 ** rng.uniform(2.3, 5.2))
    asked = "--config.stages=pretrain,knn,probe,report,export"
    if number % 2 and (mounted := _small_disk(folder / "disk", 10 * size)):
        try:
            done = lab.launch(*lab.flags(), asked, workdir=mounted / "run")
            done.require(0, 1)
            if (mounted / "run").exists():
                shutil.copytree(mounted / "run", run)
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
        how = f"a disk of {10 * size} bytes"
    else:
        done = _with_limit(lab, [*lab.flags(), asked], run, size).require(0, 1)
        how = f"files of {size} bytes"
    if done.code and not any(x in done.stderr for x in ("File too large", "No space")):
        raise Wrong(f"the line does not say why; {done.tail()}")
    lab.launch(*lab.flags(), workdir=run).require(0)
    lab.equals_whole(run)
    said = (done.stderr.splitlines() or [""])[-1] if done.code else ""
    return f"{how}: {done.code} {said}".strip()


def _small_disk(folder: Path, size: int) -> Path | None:
    """A file system of so many bytes; None where one may not be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, check=False)
    return None if done.returncode else folder


def _with_limit(lab: Lab, flags: list[str], run: Path, size: int) -> Ended:
    def limit(process: Any) -> None:
        # Not before exec: Python and its packages are to be cached as ever.
        bounds = (size, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, bounds)

    # With no cache of compiled programs: their files count too.
    return lab.launch(
        *flags, workdir=run, interrupt=limit, JAX_COMPILATION_CACHE_DIR=""
    )


def several(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """One of two processes is stopped or killed; one goes on alone."""
    name = ("SIGTERM", "SIGKILL", "SIGINT")[number % 3]
    step, which = rng.choice(range(2, 20, 2)), rng.randrange(2)
    run = folder / "run"
    more = ["--config.devices=0", "--config.stages=pretrain"]
    more += ["--config.probe.every_epochs=0", f"--workdir={run}"]
    flags = _stopping(lab, f"pretrain/{step}/{name}")
    ended = pairs.together(*flags, *more, stop_in=which)
    codes = pairs.codes(ended)
    if name != "SIGKILL" and codes != [75, 75]:
        raise Wrong(f"exit codes {codes}; {ended}")
    if name == "SIGKILL":
        other = codes.pop(1 - which)
        # jax may abort the second one before it can say anything.
        if codes != [-signal.SIGKILL] or other not in (134, -signal.SIGABRT):
            raise Wrong(f"exit codes {codes}, {other}; {ended}")
    alone = ["--config.devices=1", *more[1:3]]
    lab.launch(*lab.flags(), *alone, workdir=run).require(0)
    found, expected = (tiny_runs.losses(x) for x in (run, lab.whole))
    if found.keys() != expected.keys():
        raise Wrong(f"steps {sorted(found)}, not {sorted(expected)}")
    worst = max(abs(found[x] / expected[x] - 1) for x in expected)
    if worst > 1e-5:
        raise Wrong(f"losses differ by {worst:.1e}, relatively")
    return f"{name} in process {which} at step {step}: {pairs.codes(ended)}"


AGAIN = "the same command continues, and all stages equal those of a whole run, bit "
AGAIN += "for bit"
KINDS = (
    Kind("stops", f"at seeded steps of all stages: 75; {AGAIN}", 4, stop),
    Kind("kills", f"at seeded moments of all stages, twice: {AGAIN}", 4, kill),
    Kind(
        "signals",
        f"at seeded moments of all stages: 75 and one line; {AGAIN}",
        5,
        phase,
    ),
    Kind(
        "early",
        "after 0, 5, ... 200 ms of a run, 0, 10, ... 400 ms of a command that ends by "
        "then: 75 and one line, or 0; before our first line Python itself ends",
        164,
        early,
    ),
    Kind(
        "disk",
        f"a full disk at any file: 1 and one line that says so; {AGAIN}",
        4,
        full_disk,
    ),
    Kind(
        "processes",
        "a signal to one of two: both 75; a kill: the other ends by itself; one "
        "process continues with the same losses",
        3,
        several,
        apart=False,
    ),
)
