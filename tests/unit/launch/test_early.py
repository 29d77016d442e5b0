"""Signals in the first and the last milliseconds of a process.

A `sitecustomize.py`, which Python runs before any of our code, sends them.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT

STOPPED = "stopped: by a signal; run the same command again to continue\n"
COMMANDS = {
    "launch.py": ["launch.py"],
    "-m": ["-m", "simclr_jax"],
    # What pip writes into the script `simclr-jax`.
    "simclr-jax": ["-c", "import sys; from simclr_jax.launch.early import start; "],
}
COMMANDS["simclr-jax"][1] += "sys.exit(start())"
BEFORE_AN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(Finder)
            os.kill(os.getpid(), signal.{signal})

sys.meta_path.insert(0, Finder)
"""
# At the end: among the functions that Python calls then, or while it takes its modules
# apart, which is after it has let go of its signal handlers.
AT_THE_END = """
import atexit, os, signal, sys

def send():
    os.kill(os.getpid(), signal.SIGTERM)

class Last:
    def __del__(self, send=send):
        send()

if {when!r} == "atexit":
    atexit.register(send)
else:
    sys.modules["last"] = Last()
"""


def ended(folder: Path, code: str, *command: str, again: bool = False):
    """`command` in a process whose sitecustomize.py is `code`.

    Args:
      again: whether the process starts itself again, for huge pages.
    """
    (folder / "sitecustomize.py").write_text(code)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment |= {"PYTHONPATH": f"{folder}:{ROOT}", "JAX_PLATFORMS": "cpu"}
    if not again:
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


BEFORE = {
    # Even our own first import, where the file is ours.
    "launch.py": ("simclr_jax", "simclr_jax.launch.early", "simclr_jax.launch.main"),
    "-m": ("simclr_jax.launch.early", "simclr_jax.launch.main"),
    "simclr-jax": ("simclr_jax.launch.main",),
}
CASES = [(command, name) for command, names in BEFORE.items() for name in names]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("command, module", CASES)
def test_a_signal_before_anything_slow_is_imported(tmp_path, command, module, name):
    code = BEFORE_AN_IMPORT.format(name=module, signal=name)
    done = ended(tmp_path, code, *COMMANDS[command], "--version")
    assert (done.returncode, done.stdout, done.stderr) == (75, "", STOPPED)


def test_nothing_slow_precedes_the_first_line_that_listens(tmp_path):
    """What is imported before the launcher is ours, or built into Python."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'simclr_jax.launch.main':\n"
        "            sys.meta_path.remove(Finder)\n"
        "            print(*sorted(set(sys.modules) - before))\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    done = ended(tmp_path, code, "launch.py", "--version")
    found = set(done.stdout.splitlines()[0].split()) - {"sitecustomize"}
    ours = {"simclr_jax", "simclr_jax.launch", "simclr_jax.launch.early"}
    assert ours <= found <= ours | {"_signal", "atexit"}


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are Linux's")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_python_starts_again_for_huge_pages(tmp_path, name):
    """It waits until there is somebody to take it."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[madvise]" not in setting.read_text():
        pytest.skip("this kernel grants no huge pages on request")
    code = (
        "import os, signal\n"
        "if 'GLIBC_TUNABLES' in os.environ:\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
    )
    done = ended(tmp_path, code, "launch.py", "--version", again=True)
    assert (done.returncode, done.stdout, done.stderr) == (75, "", STOPPED)


@pytest.mark.parametrize("when", ["atexit", "modules"])
def test_a_signal_after_the_work_changes_nothing(tmp_path, when):
    done = ended(tmp_path, AT_THE_END.format(when=when), "launch.py", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("simclr_jax ")


def test_what_hangs_at_the_end_can_be_ended(tmp_path):
    """By a signal, and with the exit code of the work: 2, for an unknown recipe."""
    code = (
        "import atexit, os, signal, threading\n"
        "threading.Thread(target=threading.main_thread().join).start()\n"
        "def hang():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "threading._register_atexit(hang)\n"
    )
    done = ended(tmp_path, code, "launch.py", "--config=nothing.py", "--workdir=x")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")


def test_importing_the_launcher_listens_to_nothing():
    """The process is another program's then."""
    import launch

    before = signal.getsignal(signal.SIGTERM)
    assert launch.start.__module__ == "simclr_jax.launch.early"
    assert signal.getsignal(signal.SIGTERM) is before
