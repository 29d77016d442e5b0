"""A run's output: what is dropped from it, and that its end ends no run."""

import os
import pty
import signal
import subprocess
import sys

import pytest
from as_cuda import run
from tiny import ROOT

# Native code's stderr -------------------------------------------------------------

NOISE = "E1126 09:00:00.1 42 cuda_timer.cc:88] Delay kernel timed out: measured time"
# Native code writes to the file descriptor; Python to sys.stderr.
WRITES = f"""
streams.filter_stderr()
for line in ({NOISE!r}, "E1126 cuda_dnn.cc:5] a real error", {NOISE!r}, "W a warning"):
    os.write(2, (line + "\\n").encode())
print("step 1 \u00e9", file=sys.stderr)
"""


def test_only_the_autotuners_message_is_dropped():
    done = run(WRITES + "sys.exit(3)", PYTHONUTF8="1")
    assert done.returncode == 3
    kept = ["E1126 cuda_dnn.cc:5] a real error", "W a warning", "step 1 \u00e9"]
    assert sorted(done.stderr.splitlines()) == sorted(kept)


def test_the_last_words_of_a_crash_arrive():
    done = run(WRITES + "os.write(2, b'F check failed'); os.abort()")
    assert done.returncode == -signal.SIGABRT
    assert "F check failed" in done.stderr
    assert "timed out" not in done.stderr


def test_a_log_level_of_ones_own_shows_everything():
    done = run(WRITES, TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stderr.count(NOISE) == 2


def test_progress_still_sees_a_terminal():
    ours, theirs = pty.openpty()
    script = (
        "from simclr_jax import startup\n"
        "from simclr_jax.launch import streams\n"
        "startup.has_cuda = lambda: True\n"
        "streams.filter_stderr()\n"
        "import sys; sys.exit(0 if sys.stderr.isatty() else 1)\n"
    )
    plain = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=plain, stderr=theirs
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0


# A stderr that nobody reads --------------------------------------------------------

# Writes more than any buffer holds, then reports on stdout that it is still there.
TALKS = """
print("early", file=sys.stderr)
streams.keep_stderr()
if {filtered}:
    streams.filter_stderr()
sys.stdin.readline()  # until stderr has closed
for _ in range(20_000):
    print("step 1", file=sys.stderr, flush=True)
os.write(1, b"still here")
"""


@pytest.mark.parametrize("filtered", [False, True])
def test_a_run_goes_on_after_the_reader_of_its_stderr_has_ended(filtered):
    """And its exit code is its own: Python's is 120 if it can't empty its buffers."""
    script = (
        "import os, sys\n"
        "from simclr_jax import startup\n"
        "from simclr_jax.launch import streams\n"
        "startup.has_cuda = lambda: True\n" + TALKS.format(filtered=filtered)
    )
    plain = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=plain,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"early\n"
    process.stderr.close()
    said, _ = process.communicate(b"\n")
    assert said == b"still here"
    assert process.returncode == 0


def test_stdout_takes_names_in_any_encoding():
    script = (
        "import os; from simclr_jax.launch import streams; streams.print_any_name(); "
        "print(os.fsdecode(b'caf\\xe9 \\xc3\\xa9'))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    assert ended.stdout.decode() == "caf\\udce9 é\n"


def test_a_run_without_stderr_has_one_that_goes_nowhere(tmp_path):
    """Nor does it print errors to stdout, or into the next file that it opens."""
    script = (
        "import sys\n"
        "from simclr_jax.launch import streams\n"
        "streams.keep_stderr()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "print('an error', file=sys.stderr, flush=True)\n"
        "print(sys.stderr.isatty())\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert (tmp_path / "file").read_text() == ""
