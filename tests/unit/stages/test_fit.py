"""What surrounds the loop: restoring, and finishing what a signal cut short."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_recipe
from quadratic import TARGET, endless, plan, quadratic

from simclr_jax.errors import StoppedError
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages.fit import Training, fit


@pytest.fixture
def train(tmp_path):
    """fit() on the quadratic, in one workdir."""
    config = tiny_recipe.get_config()
    workdir = Workdir(tmp_path / "run", config).open()
    run = Experiment(config, workdir, Any)  # the data are not asked for
    run.optimizer = lambda *_: (optax.adam(0.1), lambda step: 0.1)
    training = Training(
        "pretrain",
        "",
        init=lambda: ({"w": jnp.zeros(3)}, {"count": jnp.zeros((), jnp.int32)}),
        loss_fn=lambda *args: quadratic(*args[:3], args[3]["target"]),
        batches=lambda start: ({"target": target} for target in endless(TARGET)),
        num_examples=10,
        meta={},
    )

    def train(plan, **changes):
        run.plan = lambda *_: (plan, plan.last_step)
        return fit(run, training._replace(**changes))

    yield train
    workdir.close()


def test_pieces_equal_the_whole(train, tmp_path):
    half, _ = train(plan(3))
    assert int(half.step) == 3
    resumed, _ = train(plan(8))
    assert int(resumed.step) == 8
    tx = optax.adam(0.1)
    w, opt_state = jnp.zeros(3), tx.init(jnp.zeros(3))
    for _ in range(8):
        updates, opt_state = tx.update(w - TARGET, opt_state)
        w = w + updates
    np.testing.assert_allclose(resumed.params["w"], w, rtol=1e-5)


def test_a_signal_in_the_last_evaluation_does_not_lose_it(train):
    def stopped(state):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        train(plan(6, steps_per_epoch=6), evaluate=stopped, evaluate_every_epochs=1)
    seen = []

    def evaluate(state):
        seen.append(int(state.step))
        return {"knn_top1": 0.5}

    for _ in range(2):  # once it is on record, not again
        train(plan(6, steps_per_epoch=6), evaluate=evaluate, evaluate_every_epochs=1)
    assert seen == [6]


def test_the_callers_arrays_survive_the_donated_step(train):
    start = {"w": jnp.ones(3)}
    state = {"count": jnp.zeros((), jnp.int32)}
    train(plan(2), init=lambda *args: args, init_args=(start, state))
    np.testing.assert_array_equal(start["w"], 1)
