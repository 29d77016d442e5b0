"""The table of commands."""

import importlib
import subprocess
import sys

import pytest
from tiny import ROOT

from simclr_jax.commands import COMMANDS
from simclr_jax.config import help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_file_and_its_line_of_help(name):
    command = importlib.import_module(f"simclr_jax.commands.{name}")
    assert command.parser().prog == f"python launch.py {name}"
    assert callable(command.run)
    (line,) = (x for x in help.usage(["simclr-jax"]).splitlines() if f"{name} RUN" in x)
    assert line.endswith(COMMANDS[name])


def test_their_help_needs_no_jax():
    words = "".join(
        f"assert launch.main(['launch.py', {name!r}, '--help']) == 0\n"
        for name in COMMANDS
    )
    script = f"import sys; sys.modules['jax'] = None\nimport launch\n{words}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == len(COMMANDS)
