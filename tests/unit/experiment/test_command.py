"""The command in results.json can be pasted into a shell."""

import subprocess
import sys

from simclr_jax.experiment.workdir import _provenance


def test_a_shell_reads_the_command_as_the_words_it_was(monkeypatch):
    from configs import common

    words = [
        "launch.py",
        "--workdir=with space",
        "--config.stages=('knn',)",
        "--x=$HOME",
    ]
    monkeypatch.setattr(sys, "argv", words)
    command = _provenance(common.get_config())["command"]
    # A shell function in place of the interpreter shows what it would be given.
    script = f"python() {{ printf '%s\\n' \"$@\"; }}\n{command}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == words
