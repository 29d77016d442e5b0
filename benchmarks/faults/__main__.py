"""Does faults of every kind to runs of seconds, and counts what comes as required.

    make faults
    python -m benchmarks.faults --only=kills,flips --seed=1
    python -m benchmarks.faults --out=runs/faults.jsonl --folder=runs/faults

Prints each try as it comes, at the end a table in Markdown; exit code 1 if one is not
as required. The folder of such a try is kept, and its command and what came are
printed. Each try depends on the seed, its kind and its number alone. `--out` gets a
line for each try and each kind. Kinds that it has, of the same seed, commit and count,
are not repeated.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.faults import ROOT
from benchmarks.faults.lab import Kind, Lab

START = time.perf_counter()


def kinds() -> dict[str, Kind]:
    from benchmarks.faults import (
        archives,
        damaged,
        images,
        interrupted,
        numbers,
        requests,
        soak,
    )

    rooms = (damaged, images, archives, numbers, requests, interrupted, soak)
    return {kind.name: kind for room in rooms for kind in room.KINDS}


def attempt(
    kind: Kind, lab: Lab, folder: Path, seed: int, number: int
) -> dict[str, Any]:
    """One try; its folder stays if it is not as required."""
    place = folder / kind.name / str(number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    begin, passed = time.perf_counter(), True
    try:
        rng = random.Random(f"{seed}/{kind.name}/{number}")
        came = kind.run(lab, rng, place, number) or ""
        shutil.rmtree(place, ignore_errors=True)
    except Exception as error:
        passed, came = False, f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - begin, 2)
    return {
        "kind": kind.name,
        "try": number,
        "passed": passed,
        "seconds": seconds,
        "came": came.replace(str(folder), "FOLDER").replace(str(ROOT), "."),
    }


def run(
    kind: Kind, lab: Lab, folder: Path, seed: int, workers: int, count: int = 0
) -> list[dict[str, Any]]:
    """All tries of a kind, or the first `count`; prints each as it comes."""
    tries = []
    with ThreadPoolExecutor(workers if kind.apart else 1) as pool:
        numbers = range(count or kind.count)
        for done in pool.map(lambda n: attempt(kind, lab, folder, seed, n), numbers):
            tries.append(done)
            word = "ok" if done["passed"] else "WRONG"
            print(f"{kind.name} {done['try']}: {word}: {done['came']}", flush=True)
            if not done["passed"]:
                print(f"    kept: {folder / kind.name / str(done['try'])}", flush=True)
    return tries


def cpu_seconds(lab: Lab) -> float:
    """Of this process and those that have ended."""
    return sum(os.times()[:4]) + sum(lab.cpu_seconds)


def about(seed: int) -> dict[str, Any]:
    """What a row has to be of, for it not to be repeated."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True)
    name = commit.stdout.decode().strip() + ("+" if changed.stdout else "")
    return {"seed": seed, "commit": name}


def table(rows: list[dict[str, Any]]) -> str:
    numbers = ("passed", "tried", "seconds", "cpu_seconds")
    total = {name: sum(row[name] for row in rows) for name in numbers}
    lines = ["| kind | required | as required | seconds | of CPU time |"]
    lines.append("|---|---|---|---|---|")
    for row in (*rows, {"name": "all", "required": ""} | total):
        counts = f"{row['passed']} of {row['tried']}"
        seconds = (f"{row[name]:.0f}" for name in numbers[2:])
        cells = (row["name"], row["required"], counts, *seconds)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    known = kinds()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(known), help="kinds, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="tries at a time")
    parser.add_argument("--count", type=int, default=0, help="tries of each; 0: all")
    parser.add_argument("--out", type=Path, help="a .jsonl; default: none")
    parser.add_argument("--folder", type=Path, help="for runs; default: a new one")
    flags = parser.parse_args()
    if unknown := set(flags.only.split(",")) - known.keys():
        parser.error(f"--only: no {sorted(unknown)}; choose from {', '.join(known)}")
    folder = flags.folder or Path(tempfile.mkdtemp(prefix="faults_"))
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # A shell has its background jobs ignore SIGINT; their children would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = _rows(flags, known, folder)
    print(f"\n{table(rows)}")
    print(f"\n{json.dumps(about(flags.seed) | machine())}")
    if all(row["passed"] == row["tried"] for row in rows):
        if flags.folder is None:
            shutil.rmtree(folder)
        return 0
    return 1


def machine() -> dict[str, Any]:
    import jax

    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "wall_seconds": round(time.perf_counter() - START),
    }


def _rows(flags: Any, known: dict[str, Kind], folder: Path) -> list[dict[str, Any]]:
    """A row for each kind, from `--out` if it is there."""
    old, lab, these = {}, Lab(folder / "lab"), about(flags.seed)
    if flags.out and flags.out.exists():
        for line in map(json.loads, flags.out.read_text().splitlines()):
            same = these.items() <= line.items()
            count = flags.count or known[line["name"]].count if "name" in line else 0
            if same and count == line.get("tried"):
                old[line["name"]] = line
    rows = []
    for name in flags.only.split(","):
        if name in old:
            rows.append(old[name])
            continue
        lab.whole  # noqa: B018 (made here, it is not in a kind's time)
        begin, cpu = time.perf_counter(), cpu_seconds(lab)
        kind = known[name]
        tries = run(kind, lab, folder, flags.seed, flags.workers, flags.count)
        row = {
            "name": name,
            "required": kind.required,
            "passed": sum(x["passed"] for x in tries),
            "tried": len(tries),
            "seconds": round(time.perf_counter() - begin, 1),
            "cpu_seconds": round(cpu_seconds(lab) - cpu, 1),
        }
        rows.append(row | these)
        if flags.out:
            flags.out.parent.mkdir(parents=True, exist_ok=True)
            with flags.out.open("a") as file:
                for line in (*tries, rows[-1]):
                    file.write(json.dumps(line) + "\n")
    return rows


if __name__ == "__main__":
    sys.exit(main())
