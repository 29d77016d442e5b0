"""A training on two devices is that on one, and compiles once."""

import jax
import numpy as np
import optax
import pytest
from device_runs import train
from small_methods import FORMS, KEY

from simclr_jax import devices, methods, training

pytestmark = pytest.mark.usefixtures("compile_in_haste")
METHODS = methods.names()
CASES = [(case, None) for case in (*METHODS, *FORMS)]
CASES += [(case, 8) for case in METHODS]


@pytest.fixture(autouse=True)
def restore():
    yield
    devices.use(1)


@pytest.mark.parametrize("case, microbatch", CASES)
def test_two_devices_have_the_losses_of_one(case, microbatch):
    losses, _, _ = train(case, microbatch, 1)
    split, state, step = train(case, microbatch, 2)
    np.testing.assert_allclose(split, losses, rtol=1e-4)
    # The new state lies as the old one did; otherwise every step compiles again.
    assert step._cache_size() == 1
    assert all(x.sharding == devices.whole() for x in jax.tree.leaves(state))


def test_several_steps_in_a_call():
    """The stacked rows are split by images, not by steps."""

    def loss_fn(params, model_state, key, batch):
        rows = batch["dataset"][batch["index"]]
        loss = ((params[None] - rows) ** 2).mean()
        return loss, (model_state, {})

    found = []
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    index = np.random.default_rng(1).integers(0, 12, (5, 4)).astype(np.int32)
    seen = []
    for number in (1, 2):
        devices.use(number)
        whole, tx = devices.whole(), optax.sgd(0.1)

        def place(stacked):
            placed = devices.place(stacked, axis=1)
            seen.append(placed["index"])
            return placed

        steps = training.make_steps(
            training.make_step(loss_fn, tx, out_shardings=whole),
            shared=("dataset",),
            place=place,
            out_shardings=whole,
        )
        start = devices.put(training.init_state(np.zeros(3), {}, tx), whole)
        dataset = devices.put(rows, whole)
        batches = [{"index": i, "dataset": dataset} for i in index]
        state, metrics = steps(start, KEY, batches)
        found.append((state.params, metrics["loss"]))
    assert len(found[1][0].devices()) == 2
    assert seen[1].addressable_shards[0].data.shape == (5, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *found)
