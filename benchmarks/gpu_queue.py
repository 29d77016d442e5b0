"""The runs that wait for a GPU, in order of value; runs what fits into some minutes.

    python benchmarks/gpu_queue.py --list
    python benchmarks/gpu_queue.py --minutes=12
    python benchmarks/gpu_queue.py --minutes=12 --data=cifar10.npz --peer=PYTHON

Each finished run has a folder in --kept (benchmarks/results/gpu by default) and is not
run again. Commit that folder. A run that the time ends has saved a checkpoint in
--workdir and continues from it; a sweep keeps its finished points. SIGTERM and Ctrl-C
end the queue's run in the same way. The queue starts a run if the minutes that it takes
on an H100 are left. It also starts one that can be stopped, if at least two minutes are
left. It ends at the first run that fails.

--data names a .npz file of CIFAR-10 (cifar10_npz.py makes one), for a machine without
tensorflow-datasets. --peer is an interpreter that has torch and lightly.
"""

import argparse
import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_LEAST = 2.0  # minutes below which no run is started that must be stopped
_GRACE = 30.0  # seconds in which a run has to save after SIGTERM
_STOPPED = 75  # launch.py's exit code then
# What is kept of a run's workdir; checkpoints are not.
_KEPT = ("results.json", "metrics.jsonl", "config.json", "report.html", "sweep.json")


class Run(NamedTuple):
    """One entry of the queue.

    Attributes:
      name: of its folder.
      minutes: on an H100, from an empty machine; measured or estimated.
      command: a script and its flags. launch.py also gets the workdir and the data.
    """

    name: str
    minutes: float
    command: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether launch.py runs, which can be stopped and continued."""
        return self.command[0] == "launch.py"


def _launch(name: str, minutes: float, recipe: str, *flags: str) -> Run:
    return Run(name, minutes, ("launch.py", f"--config=configs/{recipe}", *flags))


def _sweep(name: str, minutes: float, recipe: str) -> Run:
    return _launch(name, minutes, recipe, "--sweep")


RUNS = (
    Run("throughput", 8, ("benchmarks/throughput.py", "--gpu", "--rounds=3")),
    Run("memory", 3, ("benchmarks/memory.py", "--run")),
    # Its other stages have run: results/gpu/cifar10_seed0_h100.
    _launch(
        "cifar10_supervised", 5, "cifar10.py", "--config.stages=('supervised','report')"
    ),
    *(
        _launch(f"cifar10_seed{seed}", 13, "cifar10.py", f"--config.seed={seed}")
        for seed in (1, 2)
    ),
    _launch("resnet18", 5, "cifar10.py:resnet18"),
    _launch("resnet18_200", 7, "cifar10.py:resnet18", "--config.epochs=200"),
    _launch("moco", 9, "cifar10.py:moco"),
    _launch("byol", 10, "cifar10.py:byol"),
    _launch("dcl", 8, "cifar10.py:dcl"),
    _launch("simsiam", 10, "cifar10.py:simsiam"),
    _launch("barlow", 10, "cifar10.py:barlow"),
    _sweep("small_batch", 40, "small_batch.py:cifar10"),
    _sweep("small_batch_beyond", 35, "small_batch.py:beyond"),
    _launch("vicreg", 45, "cifar10.py:vicreg"),
    _sweep("augmentations", 75, "augmentations.py"),
    _sweep("batch_epochs", 400, "batch_epochs.py"),
    _sweep("moco_mechanisms", 400, "moco_mechanisms.py:cifar10"),
    _launch("random_target", 10, "random_target.py:cifar10"),
)


def done(run: Run, kept: Path) -> bool:
    return (kept / run.name / "run.json").is_file()


def fitting(runs: Sequence[Run], kept: Path, minutes: float) -> Iterator[Run]:
    """The open runs that fit; asks for the time left before each one."""
    end = time.monotonic() + 60 * minutes
    for run in runs:
        left = (end - time.monotonic()) / 60
        fits = run.minutes <= left or (run.trains and left >= _LEAST)
        if fits and not done(run, kept):
            yield run


def execute(run: Run, options: argparse.Namespace, seconds: float) -> int:
    """Runs one entry for at most so many seconds; returns its exit code."""
    kept, workdir = Path(options.kept) / run.name, Path(options.workdir) / run.name
    workdir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *run.command]
    if run.trains:
        _bring_back(kept, workdir)
        command += [f"--workdir={workdir}", *options.flags]
        if options.data:
            command += ["--config.data.name=npz", f"--config.data.path={options.data}"]
    elif options.peer and run.name == "throughput":
        command.append(f"--peer={options.peer}")
    begin = time.monotonic()
    with open(workdir / "log.txt", "a") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C reaches only the queue
        )
        asked_to_end = False
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = _end(process)
        except KeyboardInterrupt:
            asked_to_end, code = True, _end(process)
    took = round((time.monotonic() - begin) / 60, 2)
    _keep(workdir, kept)
    if code == 0:
        record = {"command": list(run.command), "minutes": took} | _machine()
        (kept / "run.json").write_text(json.dumps(record, indent=1) + "\n")
    states = {0: "finished", _STOPPED: "stopped, continues"}
    state = states.get(code, f"FAILED ({code})")
    print(f"{run.name}: {state} after {took} min, {workdir / 'log.txt'}", flush=True)
    if asked_to_end:
        raise SystemExit(_STOPPED)
    return code


def _end(process: subprocess.Popen) -> int:
    """Asks a run to save and end; its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _keep(workdir: Path, kept: Path) -> None:
    """Copies what is kept, from the workdir and from the points of a sweep."""
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(workdir / "log.txt", kept / "log.txt")
    for name in _KEPT:
        for path in workdir.rglob(name):
            target = kept / path.relative_to(workdir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _bring_back(kept: Path, workdir: Path) -> None:
    """Puts a sweep's finished points where they were: results.json is enough."""
    for path in kept.glob("*/*/results.json"):
        target = workdir / path.relative_to(kept)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _machine() -> dict[str, object]:
    """Hardware, versions and commit, recorded with every finished run."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    commit = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "gpu": _output(query),
        "commit": _output(commit),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "date": time.strftime("%Y-%m-%d"),
    }


def _output(command: list[str]) -> str | None:
    """What a command prints; None if it is missing or fails."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def listing(runs: Sequence[Run], kept: Path) -> str:
    lines = []
    for run in runs:
        state = "done" if done(run, kept) else "open"
        lines.append(f"{state}  {run.minutes:5.0f} min  {run.name:16}" + _flags(run))
    left = sum(run.minutes for run in runs if not done(run, kept))
    return "\n".join([*lines, f"{left:.0f} minutes on an H100 are open"])


def _flags(run: Run) -> str:
    return " ".join(("python", *run.command))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="what is done and open")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--only", help="names of runs, separated by commas")
    parser.add_argument("--data", help="a .npz file of CIFAR-10")
    parser.add_argument("--peer", help="an interpreter that has torch and lightly")
    parser.add_argument("--workdir", default=str(ROOT / "runs/gpu_queue"))
    parser.add_argument("--kept", default=str(ROOT / "benchmarks/results/gpu"))
    parser.add_argument("flags", nargs="*", help="more flags for launch.py, after --")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, runs: Sequence[Run] = RUNS) -> int:
    """Runs what fits; returns 1 if a run failed."""
    options = parse(argv)
    # Absolute, because the runs start in ROOT.
    options.data = options.data and str(Path(options.data).resolve())
    options.workdir = str(Path(options.workdir).resolve())
    if options.only:
        names = options.only.split(",")
        if unknown := set(names) - {run.name for run in runs}:
            raise SystemExit(f"--only: no run {', '.join(sorted(unknown))}; see --list")
        runs = [run for run in runs if run.name in names]
    if options.list:
        print(listing(runs, Path(options.kept)))
        return 0
    end = time.monotonic() + 60 * options.minutes
    for run in fitting(runs, Path(options.kept), options.minutes):
        left = end - time.monotonic() - (_GRACE if run.trains else 0)
        if execute(run, options, max(left, 1.0)) not in (0, _STOPPED):
            return 1
    print(listing(runs, Path(options.kept)))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
