"""The data and the one whole run that tests of several files look at."""

import fcntl
import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny import launch, recipe, write_npz


class Run(NamedTuple):
    """A run of launch.py that ended well."""

    workdir: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder of this session that all of xdist's workers have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


@pytest.fixture(scope="session")
def whole(shared):
    """A run of every stage, never interrupted; copy the workdir to change it.

    The first worker to ask makes it, the others wait for it.
    """
    folder = shared / "whole"
    folder.mkdir(exist_ok=True)
    printed = folder / "printed.json"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            data = write_npz(folder / "squares.npz")
            done = launch(*recipe(data), f"--workdir={folder / 'run'}")
            assert done.returncode == 0, done.stderr
            printed.write_text(json.dumps([done.stdout, done.stderr]))
    return Run(folder / "run", *json.loads(printed.read_text()))
