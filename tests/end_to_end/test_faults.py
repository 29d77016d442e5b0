"""A few tries of each kind of fault that `make faults` does, by the same code."""

import pytest

from benchmarks.faults.__main__ import kinds, run, table
from benchmarks.faults.lab import Ended, Kind, Lab, Wrong

KINDS = kinds()
# Tries of each that take seconds together. Of whole runs, one is enough here: what they
# show at length, the other files in this folder show at known points.
QUICK = {"flips": 3, "cuts": 3, "strangers": 3, "images": 6, "npz": 6, "requests": 11}
QUICK |= {"numbers": 2, "early": 4}
LONG = {"stops": 1, "kills": 1, "signals": 1, "disk": 1, "readers": 1}


@pytest.fixture(scope="module")
def lab(whole, tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), whole.workdir)


def required(name, count, lab, folder):
    tries = run(KINDS[name], lab, folder, seed=0, workers=1, count=count)
    assert len(tries) == count
    assert [x for x in tries if not x["passed"]] == []


@pytest.mark.parametrize("name", QUICK)
def test_faults(lab, tmp_path, name):
    required(name, QUICK[name], lab, tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", LONG)
def test_faults_of_whole_runs(lab, tmp_path, name):
    required(name, LONG[name], lab, tmp_path)


def test_every_kind_is_in_here():
    elsewhere = {"processes", "soak"}  # tests/end_to_end/test_processes.py; minutes
    assert KINDS.keys() == QUICK.keys() | LONG.keys() | elsewhere


def test_a_flipped_bit_that_nobody_looks_for_is_wrong(lab, tmp_path, monkeypatch):
    """With its check of digests taken out, the reader must fail this kind."""
    from simclr_jax.checkpoint import sealed_folder

    monkeypatch.setattr(sealed_folder, "verify", lambda folder, record: None)
    tries = run(KINDS["flips"], lab, tmp_path, seed=0, workers=1, count=6)
    wrong = [x for x in tries if not x["passed"]]
    assert wrong
    for x in wrong:
        assert (tmp_path / "flips" / str(x["try"]) / "checkpoints").is_dir()  # kept


@pytest.mark.parametrize(
    "code, stderr, allowed",
    [
        (1, "Traceback (most recent call last):\nKeyError: 3\n", (1,)),
        (-11, "", (0, 75)),
        (2, "error: config.x: 3\n", (0, 75)),
        (2, "something\n", (2,)),
        (2, "error: a\nerror: b\n", (2,)),
        (2, "error: a\nand more\n", (2,)),
        (75, "error: a\n", (75,)),
        (0, "error: a\n", (0,)),
    ],
)
def test_what_is_not_an_answer(code, stderr, allowed):
    with pytest.raises(Wrong):
        Ended("launch.py", code, "", stderr).require(*allowed)


def test_what_is_one():
    Ended("launch.py", 2, "", "note\nerror: config.x: 3\n").require(0, 2)
    Ended("launch.py", 75, "", "stopped: by a signal\n").require(75)


def test_tries_are_of_their_seed_and_number(tmp_path):
    def draw(lab, rng, folder, number):
        if number == 2:
            raise Wrong("on purpose")
        return str(rng.random())

    kind = Kind("x", "nothing", 4, draw)
    lab = Lab(tmp_path / "lab")
    first, again = (run(kind, lab, tmp_path, seed, 2) for seed in (5, 5))
    came = [x["came"] for x in first]
    assert came == [x["came"] for x in again]
    assert len(set(came)) == 4
    assert came != [x["came"] for x in run(kind, lab, tmp_path, 6, 1)]
    assert [x["passed"] for x in first] == [True, True, False, True]
    assert came[2] == "Wrong: on purpose"


def test_the_table_counts():
    one = {"required": "y", "passed": 3, "tried": 4, "seconds": 1.2, "cpu_seconds": 2.0}
    two = {"required": "z", "passed": 5, "tried": 5, "seconds": 2.2, "cpu_seconds": 1.0}
    lines = table([{"name": "a"} | one, {"name": "b"} | two]).splitlines()
    assert lines[2] == "| a | y | 3 of 4 | 1 | 2 |"
    assert lines[-1] == "| all |  | 8 of 9 | 3 | 3 |"
