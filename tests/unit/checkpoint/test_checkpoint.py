"""Checkpoints: bit for bit, and every damage noticed.

Damage is done to the files themselves, by hand or by a process stopped while it
saves; the expected content is made again from the step's number.
"""

import gc
import hashlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tiny import ROOT

from simclr_jax import checkpoint
from simclr_jax.checkpoint import orbax_arrays, sealed_folder, store, trees
from simclr_jax.errors import RequestError


class Pair(NamedTuple):
    first: jax.Array
    second: tuple


def tree(step: int, size: int = 30):
    """A state with all that optax and flax put into one; its values depend on step."""
    rng = np.random.default_rng(step)
    params = {
        "encoder": {"kernel": jnp.asarray(rng.normal(size=(size, 4)), jnp.float32)},
        "projector": {"bias": jnp.asarray(rng.normal(size=3), jnp.bfloat16)},
    }
    mask = {"encoder": {"kernel": True}, "projector": {"bias": False}}
    tx = optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), mask),
        optax.adam(optax.linear_schedule(0.1, 0.0, 10)),
        optax.lars(0.1, weight_decay_mask=mask, trust_ratio_mask=mask),
    )
    model_state = Pair(
        jnp.arange(9) + step, ({"cursor": jnp.int32(step)}, np.ones(2, bool))
    )
    return {
        "params": params,
        "model_state": model_state,
        "opt_state": tx.update(params, tx.init(params), params)[1],
        "nothing": (),
    }


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Steps 300 and 400; tests damage copies of it."""
    directory = tmp_path_factory.mktemp("pristine") / "steps"
    for step in (300, 400):
        checkpoint.save(directory, step, tree(step), {"seconds": step / 7})
    return directory


@pytest.fixture
def directory(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "with space é" / "checkpoints")


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree(0))


# Round trips ----------------------------------------------------------------------


def test_round_trip(directory):
    step, items, meta = checkpoint.restore(str(directory), LIKE)
    assert (step, meta) == (400, {"seconds": 400 / 7})
    assert_same(items, tree(400))
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(items))
    assert checkpoint.steps(directory) == [300, 400]


def test_awkward_leaves(tmp_path):
    items = {
        "bits": {
            "nan": np.array([0x7FC12345, 0xFFC00001, 0x80000000], np.uint32).view("f4"),
            "minus_zero": np.full(5, -0.0, np.float32),
            "no_rows": np.zeros([0, 3], np.float32),
            "float8": jnp.ones(3, jnp.float8_e4m3fn),
            "big_endian": np.arange(3, dtype=">f4"),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "a.b": np.int64(2**60),
            "é ü": 3,
        },
        "bare": jnp.float32(2),
        "empty": np.zeros([0]),
    }
    checkpoint.save(tmp_path, 0, items, {})
    _, restored, _ = checkpoint.restore(tmp_path, items)
    items["bits"]["big_endian"] = items["bits"]["big_endian"].astype(np.float32)
    assert_same(restored, items)


def test_restored_state_can_be_donated(directory):
    _, items, _ = checkpoint.restore(directory, LIKE)
    add = jax.jit(lambda x: jax.tree.map(lambda a: a + a, x), donate_argnums=0)
    with_numbers = {"params": items["params"], "opt_state": items["opt_state"]}
    add(with_numbers)  # "buffers were not usable" is a warning, which is an error here
    assert all(x.is_deleted() for x in jax.tree.leaves(with_numbers))


def test_some_items_as_stored(directory):
    _, items, _ = checkpoint.restore(directory, {"model_state": None, "params": None})
    expected = tree(400)
    assert_same(items["params"], jax.tree.map(np.asarray, expected["params"]))
    pair = expected["model_state"]
    stored = {"first": pair.first, "second": {"0": pair.second[0], "1": pair.second[1]}}
    assert_same(items["model_state"], stored)
    assert all(type(x) is np.ndarray for x in jax.tree.leaves(items))


def test_leaves_that_are_not_asked_for_are_not_unpacked(tmp_path):
    """256 MB of zeros in a small file, as a stranger's checkpoint may have."""
    x = np.arange(5, dtype=np.float32)
    zeros = np.zeros(2**26, np.float32)
    items = {"a": {"net": {"x": x}, "other": zeros}, "b": {"other": zeros}}
    checkpoint.save(tmp_path, 1, items, {})
    used = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert used < 2**22
    del items, zeros
    gc.collect()
    script = (
        "import resource, sys\n"
        "from simclr_jax import checkpoint\n"
        "like = {'a': None, 'b': None}\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        "found = checkpoint.restore(\n"
        "    sys.argv[1], like, only=lambda leaf: leaf.startswith('a/net/')\n"
        ")\n"
        "assert found[1]['a']['net']['x'].tolist() == [0, 1, 2, 3, 4], found\n"
        "assert list(found[1]['a']) == ['net'] and found[1]['b'] == {}, found\n"
        "print(peak() - before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 2**28


def test_older_step_on_request(directory):
    step, items, meta = checkpoint.restore(directory, LIKE, step=300)
    assert (step, meta["seconds"]) == (300, 300 / 7)
    assert_same(items, tree(300))
    with pytest.raises(
        RequestError, match=r"no checkpoint step 350 in .*, only 300, 400"
    ):
        checkpoint.restore(directory, LIKE, step=350)


def test_sharded_save_restores_anywhere(tmp_path):
    devices = jax.devices()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))
    x = jnp.arange(8.0).reshape(4, 2)
    checkpoint.save(tmp_path, 1, {"params": {"w": jax.device_put(x, split)}}, {})

    def restored(leaf):
        w = checkpoint.restore(tmp_path, {"params": {"w": leaf}})[1]["params"]["w"]
        np.testing.assert_array_equal(w, x)
        return w

    free = restored(jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert free.devices() == {devices[0]}
    assert not free.committed
    assert not restored(x).committed
    assert restored(jax.device_put(x, split)).sharding == split
    second = jax.sharding.SingleDeviceSharding(devices[1])
    on_second = restored(jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=second))
    assert on_second.devices() == {devices[1]}


def test_meta(directory, tmp_path):
    assert checkpoint.read_meta(directory) == {"seconds": 400 / 7}
    assert checkpoint.read_meta(directory, 300) == {"seconds": 300 / 7}
    assert checkpoint.read_meta(directory, 1) is None
    assert checkpoint.read_meta(tmp_path / "none") is None


def test_nothing_there(tmp_path):
    (tmp_path / "7.tmp").mkdir()
    (tmp_path / "6.damaged").mkdir()
    (tmp_path / "notes").mkdir()
    for directory in (tmp_path, tmp_path / "none"):
        assert checkpoint.steps(directory) == []
        assert checkpoint.restore(directory, {"params": None}) is None
        assert checkpoint.restore(directory, {"params": None}, step=3) is None


def test_keep(tmp_path):
    (tmp_path / "2.damaged").mkdir()
    (tmp_path / "9.tmp").mkdir()
    for step in (1, 2, 3, 10):
        checkpoint.save(tmp_path, step, {"x": jnp.ones(2)}, {}, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["10", "2.damaged", "3"]
    checkpoint.save(tmp_path, 11, {"x": jnp.ones(2)}, {}, keep=3)
    assert checkpoint.steps(tmp_path) == [3, 10, 11]
    checkpoint.save(tmp_path, 12, {"x": jnp.ones(2)}, {}, keep=5)
    assert checkpoint.steps(tmp_path) == [3, 10, 11, 12]
    checkpoint.save(tmp_path, 5, {"x": jnp.ones(2)}, {}, keep=1)
    assert checkpoint.steps(tmp_path) == [5]  # never deletes what it just wrote


def test_same_step_again(tmp_path):
    for value in (1.0, 2.0):
        checkpoint.save(tmp_path, 3, {"x": jnp.full(2, value)}, {"value": value})
    assert os.listdir(tmp_path) == ["3"]
    _, items, meta = checkpoint.restore(tmp_path, {"x": None})
    assert items["x"].tolist() == [2.0, 2.0]
    assert meta == {"value": 2.0}


# Wrong requests -------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda p: p["encoder"].update(kernel=jnp.zeros([30, 5])),
            r"params/encoder/kernel is float32 \[30, 4\], "
            r"but this run's is float32 \[30, 5\]$",
        ),
        (
            lambda p: p["encoder"].update(kernel=jnp.zeros([30, 4], jnp.bfloat16)),
            r"is float32 \[30, 4\], but this run's is bfloat16 \[30, 4\]$",
        ),
        (
            lambda p: p.update(predictor={"bias": jnp.zeros(2)}),
            r"params/predictor/bias is not there, but this run's is float32 \[2\]$",
        ),
        (
            lambda p: p.pop("projector"),
            r"params/projector/bias is bfloat16 \[3\], but this run's is not there$",
        ),
    ],
)
def test_other_structure_is_a_wrong_request(directory, capfd, change, message):
    params = tree(400)["params"]
    change(params)
    with pytest.raises(RequestError, match=message) as error:
        checkpoint.restore(directory, {"params": params})
    assert "\n" not in str(error.value)
    assert f"checkpoint step 400 in {directory}" in str(error.value)
    assert checkpoint.steps(directory) == [300, 400]
    assert capfd.readouterr() == ("", "")


def test_unknown_item(directory):
    with pytest.raises(RequestError, match="no 'ema', only"):
        checkpoint.restore(directory, {"ema": None})


@pytest.mark.parametrize(
    "items, meta, error, message",
    [
        ({"x": jnp.ones(1)}, {"a": object()}, TypeError, "not JSON"),
        ({"x": {"k": jax.random.key(0)}}, {}, TypeError, "x/k is not an array"),
        ({"x": {"k": "text"}}, {}, TypeError, "x/k is not an array"),
        ({"../x": jnp.ones(1)}, {}, ValueError, "names must be letters"),
        ({"x": {"a/b": 1}}, {}, ValueError, "slash"),
        ({"x": {"a.b": 1, "a": {"b": 2}}}, {}, ValueError, "same name"),
    ],
)
def test_what_cannot_be_saved_writes_nothing(tmp_path, items, meta, error, message):
    with pytest.raises(error, match=message):
        checkpoint.save(tmp_path / "new", 1, items, meta)
    assert os.listdir(tmp_path) == []


# Damage ---------------------------------------------------------------------------


def assert_falls_back(directory: Path, capfd, reason: str = ".+"):
    step, items, _ = checkpoint.restore(directory, {"params": LIKE["params"]})
    assert step == 300
    assert_same(items["params"], tree(300)["params"])
    out, err = capfd.readouterr()
    assert out == ""
    line = f"checkpoint step 400 is damaged: {reason}; continuing from step 300\n"
    assert re.fullmatch(line, err), err
    assert checkpoint.steps(directory) == [300]
    assert sorted(os.listdir(directory)) == ["300", "400.damaged"]


def test_one_flipped_bit_in_any_file(directory, capfd):
    rng = np.random.default_rng(0)
    for name in files(directory / "400"):
        path = directory / "400" / name
        content = path.read_bytes()
        for position in rng.integers(len(content), size=2):
            damaged = bytearray(content)
            damaged[position] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            reasons = (
                rf"(the content of {name} has changed|digests.json is not readable)"
            )
            assert_falls_back(directory, capfd, reasons)
            os.rename(directory / "400.damaged", directory / "400")
        path.write_bytes(content)
    assert checkpoint.restore(directory, LIKE)[0] == 400


def test_truncated_emptied_or_deleted_file(directory, capfd):
    for name in files(directory / "400"):
        path = directory / "400" / name
        content = path.read_bytes()
        for replacement in (content[: len(content) // 2], b"", content + b"\0", None):
            if replacement is None:
                path.unlink()
            else:
                path.write_bytes(replacement)
            assert checkpoint.steps(directory) == [300], name
            assert_falls_back(directory, capfd)
            os.rename(directory / "400.damaged", directory / "400")
        path.write_bytes(content)
    assert checkpoint.restore(directory, LIKE)[0] == 400


def test_other_damage(directory, capfd):
    newest = directory / "400"

    def expect(reason: str):
        assert_falls_back(directory, capfd, reason)
        shutil.rmtree(directory / "400.damaged")
        shutil.copytree(directory / "300", newest)
        shutil.copy(sound, newest / "digests.json")

    sound = shutil.copy(newest / "digests.json", directory.parent)
    shutil.copytree(newest, directory.parent / "400")
    (newest / "arrays" / "notes.txt").write_text("hello")
    expect("arrays/notes.txt is not one of its files")
    expect("arrays/.+ is missing")  # the files of 300 under the record of 400
    (newest / "digests.json").write_text("[" * 100_000)
    expect("digests.json is not readable")
    shutil.copy(directory / "300" / "digests.json", newest)
    expect("it is a copy of step 300")
    shutil.rmtree(newest)
    newest.mkdir()
    expect("digests.json is missing")
    (newest / "digests.json").unlink()
    (newest / "digests.json").mkdir()
    expect("digests.json is not a regular file")
    (newest / "digests.json").unlink()
    os.mkfifo(newest / "digests.json")  # to open it would wait for ever
    expect("digests.json is not a regular file")
    data = next(x for x in (newest / "arrays").rglob("*") if x.is_file())
    data.unlink()
    os.mkfifo(data)
    expect("arrays/.+ is not a regular file")


def test_what_a_killed_deletion_left_is_deleted(directory, tmp_path):
    left = [directory / name for name in ("100.old.tmp", "500.tmp")]
    others = [directory / name for name in ("200.damaged", "mine.tmp")]
    kept = sorted([*directory.iterdir(), *others])
    for folder in (*left, *others):
        shutil.copytree(directory / "300", folder)
    checkpoint.tidy(directory)
    assert sorted(directory.iterdir()) == kept
    checkpoint.tidy(tmp_path / "missing")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": None},
        {"number": None},
        {"files": None},
        {"files": [3]},
        {"files": {"arrays/x": 3}},
        {"leaves": None},
        {"leaves": {"params": 3}},
        {"meta": None},
        {"orbax": None},
    ],
    ids=str,
)
def test_a_sealed_record_that_someone_else_wrote(directory, capfd, changes):
    """Its digest is right, but a key is missing (None) or another type."""
    path = directory / "400" / "digests.json"
    record = json.loads(path.read_text())["record"] | changes
    kept = {key: value for key, value in record.items() if value is not None}
    body = json.dumps(kept)
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(f'{{"sha256": "{digest}", "record": {body}}}\n')
    assert_falls_back(directory, capfd, ".*digests.json .*")


def test_another_runs_damaged_step_keeps_its_name(directory, capfd):
    flip(directory / "400" / "digests.json")
    step, *_ = checkpoint.restore(directory, LIKE, rename=False)
    assert step == 300
    assert sorted(os.listdir(directory)) == ["300", "400"]
    assert "continuing from step 300" in capfd.readouterr().err


# A run that goes on saving while another one reads -----------------------------------


def save_and_delete_once(monkeypatch, module, name, directory):
    """Before `module.name` runs for the first time, step 500 replaces all others."""
    before, times = getattr(module, name), iter([True])

    def first(*arguments):
        if next(times, False):
            checkpoint.save(directory, 500, tree(500), {"seconds": 5}, keep=1)
        return before(*arguments)

    monkeypatch.setattr(module, name, first)


# Reading a step: its record is read and checked, then its files, then its arrays.
READING = [
    (sealed_folder, "read"),
    (sealed_folder, "_check"),
    (sealed_folder, "verify"),
    (orbax_arrays, "read"),
]


@pytest.mark.parametrize("module, name", READING)
def test_a_step_deleted_while_it_is_read_gives_way_to_a_newer_one(
    directory, monkeypatch, capfd, module, name
):
    save_and_delete_once(monkeypatch, module, name, directory)
    step, items, _ = checkpoint.restore(directory, LIKE, rename=False)
    assert step == 500
    assert_same(items, tree(500))
    assert capfd.readouterr().err == ""
    assert os.listdir(directory) == ["500"]


@pytest.mark.parametrize("module, name", READING)
def test_a_step_asked_for_that_is_deleted_is_one_line(
    directory, monkeypatch, module, name
):
    save_and_delete_once(monkeypatch, module, name, directory)
    message = f"no checkpoint step 300 in {directory}, only 500"
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        checkpoint.restore(directory, LIKE, step=300, rename=False)


def test_steps_deleted_while_they_are_listed(pristine, tmp_path, monkeypatch):
    for ask, expected in (
        (checkpoint.steps, [500]),
        (checkpoint.read_meta, {"seconds": 5}),
    ):
        directory = tmp_path / ask.__name__
        shutil.copytree(pristine, directory)
        with monkeypatch.context() as patch:
            save_and_delete_once(patch, sealed_folder, "peek", directory)
            assert ask(directory) == expected


def test_a_link_to_nowhere_is_damage(directory, tmp_path, capfd):
    (directory / "500").symlink_to(tmp_path / "gone")
    assert checkpoint.restore(directory, LIKE, rename=False)[0] == 400
    assert "checkpoint step 500 is damaged" in capfd.readouterr().err


def test_wrong_from_the_start(tmp_path, monkeypatch):
    """Bits that flipped between memory and disk: only the leaf's digest shows it."""
    write = orbax_arrays.write
    wrong = {"x": {"w": np.array([1.0, 2.5])}}
    monkeypatch.setattr(orbax_arrays, "write", lambda folder, _: write(folder, wrong))
    checkpoint.save(tmp_path, 1, {"x": {"w": np.array([1.0, 2.0])}}, {})
    with pytest.raises(RequestError, match="damaged: x/w is not what was saved"):
        checkpoint.restore(tmp_path, {"x": None})


def flip(path: Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_none_left(directory, capfd):
    """Refuses, and goes on refusing: the step isn't set aside, or the next run would
    start again from nothing."""
    for step in (300, 400):
        name = next(n for n in files(directory / str(step)) if "/d/" in n)
        flip(directory / str(step) / name)
    for _ in range(2):
        with pytest.raises(RequestError) as error:
            checkpoint.restore(directory, LIKE)
        assert re.fullmatch(
            r"checkpoint step 400 is damaged: the content of \S+ has changed; "
            r"checkpoint step 300 is damaged: the content of \S+ has changed; "
            rf"no other step is left in {directory}",
            str(error.value),
        )
    assert sorted(os.listdir(directory)) == ["300", "400"]
    assert capfd.readouterr() == ("", "")


def test_set_aside_twice_then_saved_again(directory, capfd):
    for _ in range(2):
        flip(directory / "400" / "digests.json")
        assert checkpoint.restore(directory, LIKE)[0] == 300
        checkpoint.save(directory, 400, tree(400), {})
    names = ["300", "400", "400.damaged", "400.damaged2"]
    assert sorted(os.listdir(directory)) == names
    capfd.readouterr()


def test_damaged_step_in_the_way_of_a_save(directory):
    flip(directory / "400" / "digests.json")
    checkpoint.save(directory, 400, tree(400), {})
    assert sorted(os.listdir(directory)) == ["300", "400", "400.damaged"]
    assert checkpoint.steps(directory) == [300, 400]


def test_folder_that_may_only_be_read(directory, capfd, monkeypatch):
    """Root may write anywhere, so the refusal is made up."""

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    flip(directory / "400" / "digests.json")
    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert checkpoint.restore(directory, LIKE)[0] == 300
    assert "continuing from step 300" in capfd.readouterr().err
    assert sorted(os.listdir(directory)) == ["300", "400"]
    with pytest.raises(
        OSError, match=r"cannot save checkpoint step 500 .*: Permission"
    ):
        checkpoint.save(directory, 500, tree(500), {})


def test_a_file_that_may_not_be_read_is_not_damage(directory, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr(sealed_folder, "verify", refuse)
    with pytest.raises(RequestError, match=r"cannot read checkpoint .*some/file"):
        checkpoint.restore(directory, LIKE)
    assert checkpoint.steps(directory) == [300, 400]


def test_newer_format_is_not_damage(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sealed_folder, "_FORMAT", 2)
        checkpoint.save(tmp_path, 1, {"x": np.ones(2)}, {})
    with pytest.raises(RequestError, match="has format 2, this version reads format 1"):
        checkpoint.restore(tmp_path, {"x": None})


def test_orbax_that_cannot_read_it_is_not_damage(directory, monkeypatch):
    def fail(*args):
        raise KeyError("some internal name")

    monkeypatch.setattr(orbax_arrays, "read", fail)
    with pytest.raises(RequestError, match="undamaged, but Orbax can't read it"):
        checkpoint.restore(directory, LIKE)
    assert checkpoint.steps(directory) == [300, 400]


# Saves that fail ------------------------------------------------------------------


def assert_failed_save_leaves_all_as_it_was(directory: Path, cause: str, caplog):
    before = files(directory)
    big = {"params": {"w": np.random.default_rng(0).normal(size=300_000)}}
    with pytest.raises(OSError, match=r"cannot save") as error:
        checkpoint.save(directory, 500, big, {})
    where = f"cannot save checkpoint step 500 (2.4 MB) in {directory}: {cause}"
    assert str(error.value) == where
    assert files(directory) == before
    assert checkpoint.restore(directory, LIKE)[0] == 400
    assert not caplog.records  # no traceback of Orbax's


def test_file_too_large(directory, caplog):
    """The same path as a full disk, without needing one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        assert_failed_save_leaves_all_as_it_was(directory, "File too large", caplog)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


_SAVE_TOO_MUCH = """
import resource, sys
import numpy as np
from simclr_jax import checkpoint
arrays = {f"a{i}": np.random.rand(300).astype("f4") for i in range(100)}
items = {name: arrays for name in ("params", "model_state", "opt_state")}
checkpoint.save(sys.argv[1], 1, items, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    checkpoint.save(sys.argv[1], 2, items, {})
except OSError as error:
    print("error:", error, file=sys.stderr)
"""


def test_a_failed_save_prints_nothing_itself(tmp_path):
    """TensorStore printed a traceback for each of the many other writes."""
    done = subprocess.run(
        [sys.executable, "-c", _SAVE_TOO_MUCH, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot save checkpoint step 2 (0.4 MB)"), line


def test_what_asyncio_says_of_other_writes_and_reads_is_dropped(caplog):
    """Seldom, two lines of it followed an error, and a traceback."""
    asyncio = logging.getLogger("asyncio")
    asyncio.error(
        "Task exception was never retrieved\nfuture: <Task finished name='Task-775' "
        "coro=<NumpyHandler._open_and_write() done, defined at "
        "site-packages/orbax/checkpoint/_src/serialization/type_handlers.py:114>>"
    )
    # Of the reads of a step that was deleted meanwhile.
    asyncio.error(
        "Task exception was never retrieved\nfuture: <Task finished name='Task-29276' "
        "coro=<_wrap_awaitable() done, defined at asyncio/tasks.py:687> "
        'exception=ValueError(\'NOT_FOUND: Error opening "zarr" driver: Metadata at '
        '"encoder/.zarray" does not exist [tensorstore_spec=...]\')>'
    )
    asyncio.error(
        "Task exception was never retrieved\nfuture: <Task finished name='Task-7' "
        "coro=<_wrap_awaitable() done, defined at asyncio/tasks.py:687> exception="
        'ValueError(\'FAILED_PRECONDITION: Error reading "conv2.kernel/0.0.0.0" in '
        'OCDBT database at local file "run/25/arrays/params/": Truncated\')>'
    )
    asyncio.error("Task exception was never retrieved\nfuture: <Task of a user>")
    (kept,) = caplog.messages
    assert "a user" in kept


def test_disk_full(pristine, tmp_path, caplog):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        directory = shutil.copytree(pristine, tmp_path / "checkpoints")
        cause = "No space left on device"
        assert_failed_save_leaves_all_as_it_was(directory, cause, caplog)
        checkpoint.save(directory, 500, tree(500), {})
        assert checkpoint.steps(directory) == [400, 500]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


_SAVE_FOREVER = """
import itertools, sys
from functools import partial
import numpy as np
from simclr_jax import checkpoint
print("ready", flush=True)
for step in itertools.count(1):
    x = np.random.default_rng(step).normal(size=20_000)
    save(step, {"a": {"x": x}, "b": {"x": -x}}, {"step": step})
"""
_HOW = {
    "at once": "save = partial(checkpoint.save, sys.argv[1])",
    "in the background": "save = checkpoint.BackgroundSaver(sys.argv[1]).save",
}


@pytest.mark.parametrize("how", _HOW)
def test_killed_while_saving(tmp_path, capfd, how):
    """A stopped process's folder, copied, is what kill -9 at that moment leaves. So
    one process shows many moments."""
    directory = tmp_path / "checkpoints"
    script = _SAVE_FOREVER.replace('print("ready"', f'{_HOW[how]}\nprint("ready"')
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    rng = np.random.default_rng(0)
    try:
        assert process.stdout.readline() == b"ready\n"
        while not checkpoint.steps(directory):
            time.sleep(0.01)
        for moment in range(12):
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            shutil.copytree(directory, tmp_path / str(moment))
            process.send_signal(signal.SIGCONT)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    shutil.copytree(directory, tmp_path / "killed")

    half_written = 0
    for moment in [*range(12), "killed"]:
        left = tmp_path / str(moment)
        names = os.listdir(left)
        half_written += any(name.endswith(".tmp") for name in names)
        assert all(re.fullmatch(r"[0-9]+(\.old)?(\.tmp)?", name) for name in names)
        found = checkpoint.steps(left)
        assert found == sorted(int(name) for name in names if name.isdigit())
        assert 1 <= len(found) <= 3
        for step in found:
            x = np.random.default_rng(step).normal(size=20_000)
            number, items, meta = checkpoint.restore(
                left, {"a": None, "b": None}, step=step
            )
            assert (number, meta) == (step, {"step": step})
            assert_same(items, {"a": {"x": x}, "b": {"x": -x}})
        checkpoint.save(left, found[-1] + 1, {"a": x}, {})
        assert len(os.listdir(left)) == 2
    assert half_written  # some moments were in the middle of a save
    assert capfd.readouterr() == ("", "")


# The format -----------------------------------------------------------------------


def test_no_pickle(directory):
    for module in (store, sealed_folder, trees):
        source = Path(module.__file__).read_text()
        assert not re.search(r"(import|from) \w*(pickle|dill|joblib|marshal)", source)
        assert "allow_pickle" not in source
    for name in files(directory / "400"):
        content = (directory / "400" / name).read_bytes()
        assert not re.match(rb"\x80[\x02-\x05]", content)  # pickle's first bytes


def test_digests_json_is_json(directory):
    content = json.loads((directory / "400" / "digests.json").read_text())
    assert content["record"]["meta"] == {"seconds": 400 / 7}
    assert content["record"]["leaves"]["params"]["encoder/kernel"][:2] == [
        [30, 4],
        "float32",
    ]
