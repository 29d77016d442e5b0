"""Where a result comes from: the command, the code, the packages, the machine."""

import importlib.metadata
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from simclr_jax import devices, processes, startup

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def collect() -> dict[str, Any]:
    """The provenance of this process, for results.json."""
    return {
        "command": shlex.join([*startup.program(sys.argv), *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": sys.version.split()[0]}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "devices": devices.count(),
        "processes": processes.count(),
        "cpus": _usable_cpus(),
    }


def _usable_cpus() -> int | None:
    """The number of cores that this process may use, which `taskset` can limit."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _commit() -> str | None:
    """The checkout's commit, "+dirty" if tracked files differ; None outside one."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
