"""What processes agree on: with one nothing changes, with two all do what 0 decides."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny import ROOT

from simclr_jax import devices, processes, signals
from simclr_jax.config import command_line
from simclr_jax.errors import RequestError, StoppedError


def test_one_process_decides_for_itself(monkeypatch):
    marker = object()  # can't be pickled into the same object
    assert processes.agree(lambda: marker) is marker
    assert (processes.count(), processes.first()) == (1, True)
    assert devices.my_rows(8) is None
    x = np.arange(3)
    assert devices.fetch({"x": x})["x"] is x
    vote = processes.StopVote()
    vote.check()
    monkeypatch.setattr(signals, "_received", [15])
    with pytest.raises(StoppedError):
        vote.check()
    with pytest.raises(StoppedError):
        processes.check_stop_together()
    processes.leave(2, "error: nothing happens")


_TWO = """
import os, sys, time
import jax
import numpy as np
from simclr_jax import devices, errors, processes, signals

processes.start(*%s, heartbeat=10)
me = jax.process_index()
devices.use()

# The answer of 0, of any length, or its exception.
asked = []
def answer():
    asked.append(me)
    return {"who": me, "long": bytes(range(256)) * 100_000}
got = processes.agree(answer)
assert got == {"who": 0, "long": bytes(range(256)) * 100_000} and len(asked) == 1 - me

def wrong():
    raise errors.DataError("path", f"found by {me}")
try:
    processes.agree(wrong)
except errors.DataError as error:
    assert error.message == "found by 0"

# What runs on 0 alone may ask and write without the others.
@processes.first_only
def write():
    asked.append(processes.agree(lambda: "alone"))
write()
assert asked[1:] == ["alone"] * (1 - me)

# Half of the rows each; the whole can be fetched.
whole = np.arange(24.0).reshape(8, 3)
rows = devices.my_rows(8)
assert (rows.start, rows.stop) == (4 * me, 4 * me + 4), rows
joined = devices.join({"x": whole[rows]}, 8)["x"]
placed = devices.place({"x": whole})["x"]
assert joined.shape == placed.shape == (8, 3)
assert len(placed.addressable_shards) == 1
for x in (joined, placed):
    np.testing.assert_array_equal(devices.fetch(x), whole)
assert devices.my_rows(7) is None

# A signal to process 1 stops both in the same call.
vote = processes.StopVote()
for call in range(9):
    if me == 1 and call == 3:
        signals._received.append(15)
    try:
        vote.check()
    except errors.StoppedError:
        break
assert call == 5, call
try:
    processes.check_stop_together()
except errors.StoppedError:
    pass
else:
    raise AssertionError

# Calls that do not match are an error, not another's value.
def this(): return 1
def that(): return 2
if me:
    try:
        processes.agree(that)
    except RuntimeError as error:
        assert "process 0 decides this, this one waits for that" in str(error)
else:
    processes.agree(this)
print("silent" if me else "spoken")
processes.leave(0)
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def slurm(process):
    """What srun sets, as far as jax reads it. jax takes the port from the job's id."""
    return {
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


@pytest.mark.parametrize("how", ["by hand", "slurm"])
def test_two_processes_agree(how):
    port = free_port()
    started = []
    job = slurm(0)["SLURM_JOB_ID"]
    for process in range(2):
        by_hand = (f"127.0.0.1:{port}", 2, process)
        given = by_hand if how == "by hand" else ()
        env = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
        if how == "slurm":
            env |= slurm(process) | {"SLURM_JOB_ID": job}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", _TWO % (given,)],
                env=os.environ | env,
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    ended = [(*x.communicate(), x.returncode) for x in started]
    assert [code for *_, code in ended] == [0, 0], ended
    own = [[x for x in out.splitlines() if "Gloo" not in x] for out, *_ in ended]
    assert own == [["spoken"], []]


_ONE = """
import sys
from simclr_jax import errors, processes
try:
    processes.start(%r, 2, %d, patience=1)
except Exception as error:
    code, line = errors.ending(error)
    processes.leave(code, line, error)
    print(line)
    sys.exit(code)
"""


def alone(coordinator, process):
    return subprocess.run(
        [sys.executable, "-c", _ONE % (coordinator, process)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        text=True,
        capture_output=True,
    )


@pytest.mark.parametrize("process", [0, 1])
def test_whoever_waits_in_vain_says_so(process):
    """jax would abort after a minute or five, with a stack of its own functions."""
    where = f"127.0.0.1:{free_port()}"
    ended = alone(where, process)
    assert (ended.returncode, ended.stderr) == (1, "")
    expected = f"error: not all processes have come to {where} within 1 seconds; "
    assert ended.stdout.startswith(expected)


def test_a_port_in_use_is_said():
    """jax would end with a segmentation fault."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = alone(f"127.0.0.1:{port}", 0)
    assert ended.returncode == 2
    assert ended.stdout.startswith(f"error: --coordinator: port {port} can't be used")


def test_without_flags_a_run_is_alone(monkeypatch):
    """Under srun too: a sweep's points must not look for each other."""
    for name, value in slurm(1).items():
        monkeypatch.setenv(name, value)
    assert parsed().processes is None
    assert not jax.distributed.is_initialized()


def parsed(*flags):
    words = ["launch.py", f"--config={ROOT}/configs/demo.py", "--workdir=x", *flags]
    return command_line.parse(words)


def test_how_processes_find_each_other():
    assert parsed("--distributed").processes == {"heartbeat": 100}
    given = parsed("--coordinator=h:9", "--processes=2", "--process=1").processes
    assert given == {
        "coordinator": "h:9",
        "processes": 2,
        "process": 1,
        "heartbeat": 100,
    }


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--distributed", "--process=1"], "--process: --distributed finds it"),
        (["--processes=2", "--process=1"], "--coordinator: missing"),
        (
            ["--coordinator=h", "--processes=2", "--process=1"],
            "--coordinator: h is not HOST:PORT",
        ),
        (
            ["--coordinator=h:9", "--processes=2", "--process=2"],
            "--process: 2 is not in 0..1",
        ),
        (["--distributed", "--heartbeat=0"], "--heartbeat: 0 is not at least 1"),
        (["--distributed", "--sweep"], "--sweep: several processes run one point"),
    ],
)
def test_what_does_not_fit_is_said(flags, message):
    with pytest.raises(RequestError, match=message):
        parsed(*flags)
