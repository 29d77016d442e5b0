"""The Makefile's choices, with an interpreter that says it is of another version."""

import os
import shutil
import subprocess
import sys

import pytest
from tiny import ROOT

# Runs `-c CODE` as a Python of that version; of all else it tells on stdout.
PRETENDS = """#!/bin/sh
[ "$1" = -c ] || { echo "ran $* with <$PIP_CONSTRAINT>"; exit 0; }
exec %s -c 'import sys; sys.version_info = %r; exec(sys.argv[1])' "$2"
"""


@pytest.fixture
def make(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "constraints", tmp_path / "constraints")

    def run(version, *words):
        python = tmp_path / "python"
        python.write_text(PRETENDS % (sys.executable, version))
        python.chmod(0o755)
        command = ["make", "JAX=cpu", f"PYTHON={python}", *words]
        # Without what a `make test` that runs this tells the makes within it.
        own = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
        plain = {k: v for k, v in os.environ.items() if k not in own}
        return subprocess.run(
            command, cwd=tmp_path, env=plain, capture_output=True, text=True
        )

    return run


def set_up(folder):
    """As if `make` had made the virtual environment of the same interpreter."""
    (folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(folder / "python", folder / ".venv/bin/python")


pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make")


def test_an_old_python_is_refused(make, tmp_path):
    for extra in ("demo", "test"):
        done = make((3, 10, 2), f".venv/ready-cpu-{extra}")
        assert done.returncode
        assert "3.11 or newer, this is 3.10: make PYTHON=" in done.stderr
        assert "ran" not in done.stdout.split()


@pytest.mark.parametrize(
    "version, extra, refused",
    [
        ((3, 11, 0), "test", False),
        ((3, 13, 9), "test", False),
        ((3, 14, 0), "test", True),
        ((3, 14, 0), "demo", False),
        ((4, 0, 0), "test", True),
    ],
)
def test_a_python_newer_than_tensorflow_is_refused(
    make, tmp_path, version, extra, refused
):
    make(version, "--version")  # writes the interpreter
    set_up(tmp_path)
    done = make(version, f".venv/ready-cpu-{extra}")
    installed = f"pip install --quiet --editable .[{extra}]" in done.stdout
    assert installed == (not refused), (done.stdout, done.stderr)
    assert bool(done.returncode) == refused
    assert (tmp_path / f".venv/ready-cpu-{extra}").exists() != refused
    if refused:
        said = [x for x in done.stderr.splitlines() if not x.startswith("make: ")]
        assert len(said) == 1
        assert "3.11 to 3.13" in said[0]
        assert f"this is {version[0]}.{version[1]}" in said[0]


@pytest.mark.parametrize(
    "version, file",
    [
        ((3, 11, 9), "constraints/3.11.txt"),
        ((3, 12, 3), "constraints/3.12.txt"),
        ((3, 13, 0), "constraints/3.13.txt"),
        ((3, 14, 0), ""),
    ],
)
def test_the_constraints_are_those_of_the_interpreter(make, tmp_path, version, file):
    make(version, "--version")
    set_up(tmp_path)
    done = make(version, ".venv/ready-cpu-demo")
    assert done.returncode == 0, done.stderr
    told, *rest = done.stdout.splitlines()
    assert rest == [f"ran -m pip install --quiet --editable .[demo] with <{file}>"]
    assert not done.stderr
    without = f"no constraints/{version[0]}.{version[1]}.txt"
    assert (without in told) == (not file)
    assert (f"that {file} pins" in told) == bool(file)


def test_the_interpreter_of_an_environment_counts_before_another(make, tmp_path):
    make((3, 11, 9), "--version")
    set_up(tmp_path)
    done = make((3, 13, 0), ".venv/ready-cpu-demo")
    assert "<constraints/3.11.txt>" in done.stdout


def test_before_there_is_an_environment_its_interpreter_to_be_counts(make, tmp_path):
    done = make((3, 12, 3), "-n", ".venv/ready-cpu-demo")
    assert "packages that constraints/3.12.txt pins" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_other_constraints_are_installed_again(make, tmp_path):
    """Only after a change of the file that this interpreter uses."""
    make((3, 12, 3), "--version")
    set_up(tmp_path)
    ready = tmp_path / ".venv/ready-cpu-demo"
    make((3, 12, 3), ".venv/ready-cpu-demo")
    for python, again in (("3.13", False), ("3.12", True)):
        later = ready.stat().st_mtime + 10
        os.utime(tmp_path / f"constraints/{python}.txt", (later, later))
        done = make((3, 12, 3), ".venv/ready-cpu-demo")
        assert ("ran -m pip install" in done.stdout) == again, done.stdout


def test_pins_are_resolved_by_the_python_that_is_named(make):
    done = make((3, 13, 0), "pins")
    assert done.stdout.splitlines()[-1].startswith("ran constraints/resolve.py ")


def test_the_first_line_says_what_is_made(make):
    """Not the recipe with the message for a Python without venv."""
    done = make((3, 12, 0), ".venv/bin/python")
    assert done.stdout.splitlines()[0].startswith("creating .venv with ")
    assert "missing" not in done.stdout
