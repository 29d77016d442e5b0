"""Runs the points of a study and records their results; shared by the studies here.

A study is a list of named points. A finished point is in the study's JSON file and is
not run again; an interrupted one continues in its workdir. Two processes of one study
share its points: with `taskset -c 0` and `taskset -c 1` each of them has one core.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
_MACHINE = ("data.data_dir", "data.path", "pretrained")  # paths of this machine

Point = tuple[str, Callable[[Path], dict]]  # name, workdir -> result


def launch(recipe: str, workdir: Path, settings: dict) -> dict:
    """Runs launch.py once; returns its results.json, with seconds and peak memory."""
    command = [
        *(sys.executable, str(ROOT / "launch.py")),
        f"--config={ROOT}/configs/{recipe}",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in settings.items()),
    ]
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(
            f"{' '.join(command)}: exit {os.waitstatus_to_exitcode(status)}"
        )
    record = json.loads((workdir / "results.json").read_text())
    # Of this process: a continued run counts from where it continued.
    record["wall_clock_s"] = round(time.monotonic() - begin, 1)
    record["peak_memory_mib"] = round(usage.ru_maxrss / 1024)
    record["settings"] = {k: v for k, v in settings.items() if k not in _MACHINE}
    return record


def provenance(record: dict) -> dict:
    """What made a run's results; recorded with every figure."""
    kept = ("commit", "versions", "device", "cpus", "seed", "settings")
    return {name: record[name] for name in kept}


def read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def run_missing(path: Path, points: list[Point], workdir: Path, limit: int) -> dict:
    """Runs up to `limit` points that `path` lacks and no other process is running.

    Returns:
      name -> result of every finished point.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    for name, run in points:
        folder = workdir / name.replace(" ", "_").replace("=", "_")
        with _locked(folder.with_name(f"{folder.name}.lock"), wait=False) as mine:
            if not limit or not mine or name in read(path):
                continue
            limit -= 1
            print(f"{path.stem}: {name}", file=sys.stderr, flush=True)
            result = run(folder)
            with _locked(workdir / "results.lock", wait=True):
                temporary = path.with_suffix(".tmp")
                temporary.write_text(
                    json.dumps(read(path) | {name: result}, indent=1) + "\n"
                )
                temporary.replace(path)
    return read(path)


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Yields whether this process has the file's lock, which ends with the process."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
