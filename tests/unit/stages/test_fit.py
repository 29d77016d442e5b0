"""What surrounds the loop: restoring, and finishing what a signal cut short."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_recipe
from quadratic import TARGET, endless, plan, quadratic

from simclr_jax.errors import StoppedError
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages.fit import fit


@pytest.fixture
def train(tmp_path):
    """fit() on the quadratic, in one workdir."""
    config = tiny_recipe.get_config()
    workdir = Workdir(tmp_path / "run", config).open()
    yield partial(
        fit,
        workdir,
        "pretrain",
        "",
        init=lambda: ({"w": jnp.zeros(3)}, {"count": jnp.zeros((), jnp.int32)}),
        loss_fn=quadratic,
        tx=optax.adam(0.1),
        schedule=lambda step: 0.1,
        key=jax.random.key(0),
        batches=lambda start: endless(TARGET),
        keep=2,
        meta={},
    )
    workdir.close()


def test_pieces_equal_the_whole(train, tmp_path):
    half, _ = train(plan=plan(3))
    assert int(half.step) == 3
    resumed, _ = train(plan=plan(8))
    assert int(resumed.step) == 8
    tx = optax.adam(0.1)
    w, opt_state = jnp.zeros(3), tx.init(jnp.zeros(3))
    for _ in range(8):
        updates, opt_state = tx.update(w - TARGET, opt_state)
        w = w + updates
    np.testing.assert_allclose(resumed.params["w"], w, rtol=1e-5)


def test_a_signal_in_the_last_evaluation_does_not_lose_it(train):
    def stopped(state, step):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        train(plan=plan(6, evaluate_every=6), evaluate=stopped)
    seen = []
    train(plan=plan(6, evaluate_every=6), evaluate=lambda state, n: seen.append(n))
    assert seen == [6]


def test_the_callers_arrays_survive_the_donated_step(train):
    start = {"w": jnp.ones(3)}
    state = {"count": jnp.zeros((), jnp.int32)}
    train(plan=plan(2), init=lambda *args: args, init_args=(start, state))
    np.testing.assert_array_equal(start["w"], 1)
