"""A state that is spread over two devices: the losses of a whole one, half the memory.

`devices.SPREAD_ABOVE` is lowered, so that the arrays of these tiny networks are large.
"""

import re

import jax
import numpy as np
import optax
import pytest
import tiny_recipe
from device_runs import batch
from small_methods import KEY, build, views

from simclr_jax import data, devices, methods, training
from simclr_jax.experiment import build as experiment_build
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages import programs
from simclr_jax.stages.fit import Training, fit
from simclr_jax.training import Plan, optimizers

pytestmark = pytest.mark.usefixtures("compile_in_haste")
LIMIT, STEPS = 64, 3


@pytest.fixture(autouse=True)
def tiny_is_large(monkeypatch):
    monkeypatch.setattr(devices, "SPREAD_ABOVE", LIMIT)
    yield
    devices.use(1)


def optimizer(name):
    lr = {"adam": 0.01, "lars": 5.0}[name]
    return optimizers.make(name, lr=lr, weight_decay=1e-4, total_steps=9)[0]


def functions(case):
    """`(init, loss_fn, after)` of a method."""
    method = build(case)

    def loss_fn(params, model_state, key, batch):
        pair = batch["a"], batch["b"]
        return method.loss(params, model_state, key, pair, batch["index"])

    def after(params, model_state, progress):
        return method.update(params, model_state, progress)

    return lambda: method.init(KEY, views()[0]), loss_fn, after


def train(case, tx, *, fsdp):
    """The losses on two devices, the last state, the step, and where its state lies."""
    devices.use(2)
    init, loss_fn, after = functions(case)
    origin = programs.origin(init, (), tx, fsdp=fsdp)
    step = programs.step(
        loss_fn, tx, lambda p, s, n: after(p, s, n / STEPS), origin.like, several=False
    )
    state, losses = origin.make(), []
    for i in range(STEPS):
        state, metrics = step(state, KEY, devices.place(batch(i)))
        losses.append(float(metrics["loss"]))
    return losses, state, step, origin.like


def on_one_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def nbytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def by_hand(tree):
    """Bytes on each of two devices: half of what is large and can be split."""

    def part(x):
        split = x.nbytes > LIMIT and any(size % 2 == 0 for size in x.shape)
        return x.nbytes // 2 if split else x.nbytes

    return sum(map(part, jax.tree.leaves(tree)))


@pytest.mark.parametrize(
    "case, name",
    [(case, name) for case in methods.names() for name in ("adam", "lars")]
    # What they keep besides networks is written row by row.
    + [("moco-memory_bank", "lars"), ("simclr-memory", "lars")],
)
def test_a_spread_state_has_the_losses_of_a_whole_one(case, name):
    """LARS needs the norms of arrays of which a device has only a part."""
    tx = optimizer(name)
    losses, whole, _, _ = train(case, tx, fsdp=False)
    found, state, step, like = train(case, tx, fsdp=True)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    assert step._cache_size() == 1
    # Nothing has lost its place: not in the first state, not in a step.
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(
        lambda x: x.sharding, like
    )
    for part in ("params", "model_state", "opt_state"):
        mine, theirs = getattr(state, part), getattr(whole, part)
        assert on_one_device(mine) == by_hand(theirs), part
    kernels = [x for x in jax.tree.leaves(state.params) if x.ndim > 1]
    largest = max(kernels, key=lambda x: x.size)
    assert largest.addressable_shards[0].data.size == largest.size / 2
    assert on_one_device(whole) == nbytes(whole)


def test_no_gradient_is_gathered_for_its_layout():
    """XLA knows no parts of a custom call's input: it gathers the whole."""
    devices.use(2)
    init, loss_fn, _ = functions("simclr")
    tx = optax.sgd(0.1)
    like = programs.origin(init, (), tx, fsdp=True).like
    inputs = like, KEY, devices.laid_out(batch(0), devices.rows())

    def gathered(step):
        text = step.lower(*inputs).compile().as_text()
        return re.findall(r" all-gather\(.*layout_constraint", text)

    assert not gathered(programs.step(loss_fn, tx, None, like, several=False))
    out = jax.tree.map(lambda x: x.sharding, like), devices.whole()
    assert gathered(training.make_step(loss_fn, tx, out_shardings=out))


def test_a_workdir_changes_between_spread_and_whole(tmp_path):
    """On two devices spread, on one, spread again, whole, and spread to the end."""
    init, loss_fn, after = functions("moco")
    tx, config = optax.sgd(0.01), tiny_recipe.get_config()
    training = Training(
        "pretrain",
        "",
        init=init,
        loss_fn=loss_fn,
        batches=lambda start: map(batch, range(start, 10)),
        num_examples=64,
        meta={},
        update=after,
    )

    def losses(name, layouts):
        workdir, last = Workdir(tmp_path / name, config).open(), 0
        run = Experiment(config, workdir, data.Info)  # the data are not asked for
        run.optimizer = lambda *_: (tx, lambda step: 0.01)
        for number, config.fsdp in layouts:
            last += 10 // len(layouts)
            plan = Plan(last, 4, 16, log_every=1, save_every=100)
            run.plan = lambda *_, plan=plan: (plan, 10)
            devices.use(number)
            state, _ = fit(run, training)
            held = by_hand(state) if config.fsdp and number == 2 else nbytes(state)
            assert on_one_device(state) == held
        workdir.close()
        return [line["loss"] for line in workdir.metrics()]

    straight = losses("straight", [(1, False)])
    layouts = [(2, True), (1, True), (2, True), (2, False), (2, True)]
    assert len(straight) == 10
    np.testing.assert_allclose(losses("changing", layouts), straight, rtol=1e-5)


def test_networks_of_other_stages_are_spread_too():
    config = tiny_recipe.get_config()
    kernel = np.arange(48.0, dtype=np.float32).reshape(8, 6)
    for fsdp, held in ((False, (8, 6)), (True, (4, 6))):
        config.fsdp = fsdp
        devices.use(2)
        placed = experiment_build.placed(config, {"kernel": kernel})["kernel"]
        made = experiment_build.made(config, lambda: jax.numpy.asarray(kernel))
        for x in (placed, made):
            assert x.addressable_shards[0].data.shape == held
            np.testing.assert_array_equal(devices.fetch(x), kernel)
        # A batch that the devices do not divide is computed whole on each.
        whole = experiment_build.placed(config, {"kernel": kernel}, batch_size=15)
        assert whole["kernel"].sharding == devices.whole()
