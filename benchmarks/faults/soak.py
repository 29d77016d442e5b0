"""A run of 2,000 steps: its memory, its files, its records."""

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import tiny_runs

from benchmarks.faults.lab import Kind, Lab, Wrong, after_record

# glibc keeps what threads free apart for each of up to 16 arenas on two cores. The
# threads of the saves fill them slowly, for thousands of steps: that hid what grows.
_MALLOC = {"MALLOC_ARENA_MAX": "2"}


def soak(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    run, watch = folder / "run", _Watch(folder / "run")
    flags = [*lab.flags(), "--config.stages=pretrain", "--config.epochs=500"]
    flags += ["--config.checkpoint.every_steps=25", "--config.probe.every_epochs=100"]
    half = after_record(run, rng.randrange(300, 700), 0, signal.SIGTERM)
    both = watch.of(half), watch.of(None)
    lab.launch(*flags, workdir=run, interrupt=both[0], **_MALLOC).require(75)
    lab.launch(*flags, workdir=run, interrupt=both[1], **_MALLOC).require(0)
    steps = list(tiny_runs.losses(run))
    if steps != list(range(2, 2001, 2)):
        raise Wrong(f"{len(steps)} steps are on record, not 1000")
    return watch.check()


class _Watch:
    """A run's memory and its number of files, read while it trains."""

    def __init__(self, run: Path):
        self._run = run
        self.seen: list[list[tuple[float, int]]] = []  # MiB and files, of each process

    def of(self, interrupt: Any) -> Any:
        def look(process: Any) -> None:
            if interrupt is not None:
                threading.Thread(target=interrupt, args=(process,)).start()
            seen = []
            self.seen.append(seen)
            status = Path(f"/proc/{process.pid}/status")
            while process.poll() is None:
                time.sleep(0.2)
                if (text := _read(status)) and "VmRSS" in text:
                    memory = int(text.partition("VmRSS:")[2].split()[0]) / 1024
                    files = sum(len(names) for *_, names in os.walk(self._run))
                    if _records(self._run) > 50:  # all is compiled
                        seen.append((memory, files))

        return look

    def check(self) -> str:
        said = []
        for seen in self.seen:
            memory, files = zip(*seen, strict=True)
            quarter = len(seen) // 4
            first, last = max(memory[: quarter + 1]), max(memory[-quarter - 1 :])
            if last > first + 50:  # a leak of 50 kB a step would be as much
                raise Wrong(f"memory grew from {first:.0f} to {last:.0f} MiB")
            if max(files[-quarter - 1 :]) > 1.5 * max(files[: quarter + 1]):
                raise Wrong(f"files grew from {files[0]} to {files[-1]}")
            said.append(f"{first:.0f} to {last:.0f} MiB, {max(files)} files")
        return "; ".join(said)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _records(run: Path) -> int:
    return _read(run / "metrics.jsonl").count("\n")


KINDS = (
    Kind(
        "soak",
        "2,000 steps with a stop: memory and files do not grow, no step lacks",
        1,
        soak,
    ),
)
