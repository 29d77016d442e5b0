"""What must be set before jax is imported can't itself import jax."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_jax import startup

ROOT = Path(__file__).parents[2]


def test_startup_imports_nothing_heavy():
    script = (
        "import sys; before = set(sys.modules)\n"
        "import simclr_jax.startup\n"
        "print(*sorted({x.split('.')[0] for x in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heavy = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert heavy == {"simclr_jax"}


@pytest.mark.parametrize("jaxlib", ["0.10.1", "0.11.2", "0.12.0.1"])
def test_a_jaxlib_that_was_not_tested_gets_no_fusion_flag(monkeypatch, jaxlib):
    """XLA aborts the process on a flag that it does not know."""
    monkeypatch.setattr(importlib.metadata, "version", {"jaxlib": jaxlib}.__getitem__)
    monkeypatch.setenv("XLA_FLAGS", "--users=own")
    startup.set_cpu_flags()
    assert os.environ["XLA_FLAGS"] == "--users=own"


def test_a_jaxlib_that_was_tested_gets_the_fusion_flag(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", {"jaxlib": "0.10.2"}.get)
    monkeypatch.setenv("XLA_FLAGS", "--users=own")
    startup.set_cpu_flags()
    startup.set_cpu_flags()  # once is enough
    assert os.environ["XLA_FLAGS"].startswith("--users=own --xla_cpu_experimental_ynn")
    assert os.environ["XLA_FLAGS"].count("ynn_fusion_type") == 1
