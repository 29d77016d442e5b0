"""Saves in the background: the same bits, one at a time, and no error lost.

A patched writer waits until the test lets it go on, so that what happens meanwhile does
not depend on how fast the disk is.
"""

import threading
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from simclr_jax import checkpoint
from simclr_jax.checkpoint import BackgroundSaver, background, orbax_arrays
from simclr_jax.errors import DivergedError, StoppedError

SECONDS = 60.0  # after which a wait counts as a deadlock


class Gate:
    """Holds up every write until it is opened; notes how many ran at once."""

    def __init__(self, write):
        self._write = write
        self.begun, self.open = threading.Semaphore(0), threading.Event()
        self.running = self.most = 0

    def __call__(self, folder, arrays):
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.release()
        assert self.open.wait(SECONDS)
        self._write(folder, arrays)
        self.running -= 1


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(orbax_arrays.write)
    monkeypatch.setattr(orbax_arrays, "write", gate)
    yield gate
    gate.open.set()


def fail(*args):
    raise OSError(28, "No space left on device")


@jax.jit
def _first(x):
    return {"w": x, "n": {"count": jnp.uint32(0)}}


def _next(state):
    """Integers that wrap around, so that every bit of a step has one right value."""
    return {"w": state["w"] * 3 + 1, "n": {"count": state["n"]["count"] + 1}}


def at(step: int, start: np.ndarray) -> dict:
    """The state after so many steps, by NumPy."""
    w = start.copy()
    for _ in range(step):
        w = w * np.uint32(3) + np.uint32(1)
    return {"w": w, "n": {"count": np.uint32(step)}}


def test_a_save_holds_its_step_although_training_went_on(tmp_path, gate):
    """The step donates the state that is being saved, many times over."""
    start = np.arange(200_000, dtype=np.uint32).reshape(400, 500)
    state, step_fn = _first(jnp.asarray(start)), jax.jit(_next, donate_argnums=0)
    with BackgroundSaver(tmp_path, keep=9) as saver:
        for step in range(1, 41):
            before, state = state, step_fn(state)
            assert before["w"].is_deleted()
            if step in (1, 20, 40):
                saver.wait()
                gate.open.clear()
                saver.save(state["n"]["count"], {"state": state}, {"step": step})
            if step in (10, 30):  # ten steps while the write stands still
                jax.block_until_ready(state)
                gate.open.set()
        gate.open.set()
    assert checkpoint.steps(tmp_path) == [1, 20, 40]
    for step in (1, 20, 40):
        number, items, meta = checkpoint.restore(tmp_path, {"state": None}, step=step)
        assert (number, meta) == (step, {"step": step})
        jax.tree.map(np.testing.assert_array_equal, items["state"], at(step, start))


def test_numbers_on_the_host_may_change_after_save(tmp_path, gate):
    values = np.ones(3)
    with BackgroundSaver(tmp_path) as saver:
        saver.save(1, {"x": {"a": values, "b": 2**40}}, {})
        values[:] = 7
        gate.open.set()
    _, items, _ = checkpoint.restore(tmp_path, {"x": None})
    assert items["x"]["a"].tolist() == [1, 1, 1]
    assert items["x"]["b"] == 2**40


def test_save_does_not_wait_for_its_own_write(tmp_path, gate):
    saver = BackgroundSaver(tmp_path)
    saver.save(3, {"x": jnp.ones(2)}, {})
    assert gate.begun.acquire(timeout=SECONDS)
    assert saver.busy()
    saver.check()
    assert checkpoint.steps(tmp_path) == []
    gate.open.set()
    saver.wait()
    assert not saver.busy()
    assert checkpoint.steps(tmp_path) == [3]


def test_one_save_at_a_time_in_order(tmp_path, gate):
    def open_soon():
        assert gate.begun.acquire(timeout=SECONDS)
        time.sleep(0.05)  # time for a second write to begin, if one would
        gate.open.set()

    threading.Thread(target=open_soon).start()
    with BackgroundSaver(tmp_path, keep=2) as saver:
        for step in (1, 2, 3, 4):
            saver.save(step, {"x": jnp.full(2, step)}, {})
    assert gate.most == 1
    assert checkpoint.steps(tmp_path) == [3, 4]


@pytest.mark.parametrize("ask", ["check", "wait", "save", "leave"])
def test_an_error_is_raised_once_by_whatever_comes_next(tmp_path, monkeypatch, ask):
    message = rf"cannot save checkpoint step 5 \(0.0 MB\) in {tmp_path}: No space left"
    with monkeypatch.context() as full:
        full.setattr(orbax_arrays, "write", fail)
        saver = BackgroundSaver(tmp_path)
        saver.save(5, {"x": jnp.ones(2)}, {})
        while saver.busy():
            time.sleep(0.001)
    asked = {
        "check": saver.check,
        "wait": saver.wait,
        "save": partial(saver.save, 6, {"x": jnp.ones(2)}, {}),
        "leave": partial(saver.__exit__, None, None, None),
    }
    with pytest.raises(OSError, match=message) as error:
        asked[ask]()
    assert "\n" not in str(error.value)
    saver.check()
    saver.wait()
    saver.save(7, {"x": jnp.ones(2)}, {})
    saver.wait()
    assert checkpoint.steps(tmp_path) == [7]


def test_wrong_items_are_an_error_too(tmp_path):
    with (
        pytest.raises(TypeError, match="not an array"),
        BackgroundSaver(tmp_path / "new") as saver,
    ):
        saver.save(1, {"x": {"k": jax.random.key(0)}}, {})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [StoppedError, DivergedError, KeyboardInterrupt])
def test_every_way_out_waits_for_the_save(tmp_path, gate, error):
    def leave():
        with BackgroundSaver(tmp_path) as saver:
            saver.save(1, {"x": jnp.ones(2)}, {})
            assert gate.begun.acquire(timeout=SECONDS)
            threading.Timer(0.05, gate.open.set).start()
            raise error("out")

    with pytest.raises(error, match="out"):
        leave()
    assert checkpoint.steps(tmp_path) == [1]


@pytest.mark.parametrize(
    "error, raised", [(StoppedError, OSError), (DivergedError, DivergedError)]
)
def test_which_of_two_errors_comes_out(tmp_path, monkeypatch, error, raised):
    """StoppedError says that the state is saved: it must not hide that it is not."""
    monkeypatch.setattr(orbax_arrays, "write", fail)

    def leave():
        with BackgroundSaver(tmp_path) as saver:
            saver.save(1, {"x": jnp.ones(2)}, {})
            raise error("out")

    with pytest.raises(raised):
        leave()


def test_a_copy_lies_where_its_array_lies():
    """Of a state that is spread over devices, none of them must hold all."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    x = np.arange(12.0, dtype=np.float32).reshape(2, 6)
    arrays = [
        jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))
        for axes in ((), ("data",), (None, "data"))
    ]
    for array, copy in zip(arrays, background._copies(arrays), strict=True):
        assert copy.sharding == array.sharding
        np.testing.assert_array_equal(copy, x)
