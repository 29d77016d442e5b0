"""Optimizers against NumPy transcriptions of the published rules; schedules by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simclr_jax.training import optimizers

KERNEL = ("encoder", "Conv_0", "kernel")


def tree(seed):
    """Parameters as flax makes them: the three networks of BYOL, BatchNorm included."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    return {
        "encoder": {
            "Conv_0": {"kernel": normal(3, 3, 2, 4)},
            "BatchNorm_0": {"scale": normal(4), "bias": normal(4)},
        },
        "projector": {
            "Dense_0": {"kernel": normal(4, 5), "bias": normal(5)},
            "BatchNorm_0": {"scale": normal(5), "bias": normal(5)},
        },
        "predictor": {"Dense_0": {"kernel": normal(5, 3), "bias": normal(3)}},
    }


def leaves(params):
    """The tree as {path: float64 array}."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {tuple(k.key for k in path): np.asarray(x, np.float64) for path, x in flat}


def train(tx, steps):
    """tree(0) after each of `steps` updates with the gradients tree(1), tree(2), ..."""
    params = tree(0)
    state = jax.jit(tx.init)(params)
    history = []

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for i in range(steps):
        params, state = step(params, state, tree(i + 1))
        history.append(leaves(params))
    return history


def train_by_numpy(update, steps):
    """The same, by update(w, g, memory, is_kernel, i) -> (w, memory) leaf by leaf."""
    params, memory = leaves(tree(0)), {}
    for i in range(steps):
        grads = leaves(tree(i + 1))
        for path, w in params.items():
            kernel = path[-1] == "kernel"
            params[path], memory[path] = update(
                w, grads[path], memory.get(path, 0.0), kernel, i
            )
    return params


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for path, w in expected.items():
        np.testing.assert_allclose(
            actual[path], w, rtol=2e-5, atol=2e-6, err_msg=str(path)
        )


# The mask


def test_the_mask_is_the_kernels():
    mask = optimizers.decay_mask(tree(0))
    flat, _ = jax.tree_util.tree_flatten_with_path(mask)
    assert {path[-1].key for path, value in flat if value} == {"kernel"}
    assert {path[-1].key for path, value in flat if not value} == {"bias", "scale"}
    assert sum(value for _, value in flat) == 3
    assert all(type(value) is bool for _, value in flat)


def test_the_mask_takes_names_and_dimensions():
    params = {"bias": jnp.ones((2, 3)), "scale": jnp.ones((1, 3)), "a": jnp.ones(3)}
    assert not any(optimizers.decay_mask(params).values())
    shapes = jax.eval_shape(lambda: tree(0))
    assert optimizers.decay_mask(shapes) == optimizers.decay_mask(tree(0))
    assert optimizers.decay_mask(jnp.ones((2, 2))) is True


# Optimizers


def lars(lr, weight_decay, *, mask=True, momentum=0.9):
    """The update of google-research/simclr, lars_optimizer.py, "classic momentum"."""

    def update(w, g, v, kernel, i):
        adapted = kernel or not mask
        if adapted:
            g = g + weight_decay * w
        ratio = 1.0
        w_norm, g_norm = np.linalg.norm(w), np.linalg.norm(g)
        if adapted and w_norm > 0 and g_norm > 0:
            ratio = 0.001 * w_norm / g_norm
        v = momentum * v + lr * ratio * g
        return w - v, v

    return update


def test_lars():
    tx, _ = optimizers.make("lars", lr=2.0, weight_decay=0.1, total_steps=10)
    first, _, third = train(tx, 3)
    assert_same(first, train_by_numpy(lars(2.0, 0.1), 1))
    assert_same(third, train_by_numpy(lars(2.0, 0.1), 3))
    # Without the masks, biases and BatchNorm would shrink and creep.
    for path, w in train_by_numpy(lars(2.0, 0.1, mask=False), 1).items():
        if path[-1] != "kernel":
            assert np.abs(first[path] - w).max() > 0.1


def test_to_lars_twice_the_loss_is_half_the_decay():
    """What recipes say of Google's numbers, whose code minimises 2 L."""
    params, grads = tree(0), tree(1)

    def step(factor, weight_decay):
        tx, _ = optimizers.make(
            "lars", lr=2.0, weight_decay=weight_decay, total_steps=10
        )
        scaled = jax.tree.map(lambda g: factor * g, grads)
        return leaves(tx.update(scaled, tx.init(params), params)[0])

    ours, googles = step(1, 0.05), step(2, 0.1)
    adapted = {path: update for path, update in ours.items() if path[-1] == "kernel"}
    others = {path: 2 * ours[path] for path in ours.keys() - adapted.keys()}
    assert adapted
    assert others
    assert_same(googles, adapted | others)


def test_lars_moves_parameters_and_gradients_that_are_zero():
    tx, _ = optimizers.make("lars", lr=0.5, momentum=0.0, total_steps=10)
    params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    # The published rule: trust ratio 1 where a norm is 0, so that both move.
    assert all((u == -0.5).all() for u in updates.values())
    zero = jax.tree.map(jnp.zeros_like, params)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(zero, tx.init(ones), ones)
    assert all((u == 0.0).all() for u in updates.values())


@pytest.mark.parametrize(
    "name, adapted",
    [
        *((name, False) for name in ("classifier", "online_probe", "h", "head_1", "z")),
        *((name, True) for name in ("encoder", "Dense_0", "projector")),
    ],
)
def test_lars_adapts_networks_and_not_classifiers(name, adapted):
    """google-research/simclr, model_util.py: `head_supervised` is excluded."""
    params = {name: {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones(2)}}
    grads = jax.tree.map(jnp.ones_like, params)
    tx, _ = optimizers.make("lars", lr=0.5, momentum=0.0, total_steps=10)
    updates, _ = tx.update(grads, tx.init(params), params)
    # ||w|| / ||g|| = 3.
    expected = -0.5 * (0.001 * 3 if adapted else 1)
    np.testing.assert_allclose(updates[name]["kernel"], expected, rtol=1e-6)
    np.testing.assert_array_equal(updates[name]["bias"], -0.5)
    assert optimizers.decay_mask(params)[name] == {"kernel": True, "bias": False}


def test_lars_can_adapt_classifiers_too():
    """google-research/simclr, colabs/distillation_self_training.ipynb: LARS excludes
    "batch_normalization" and "bias", so it adapts and decays the student's classifier.
    Its kernel starts at zero, where the rule's trust ratio is 1."""
    start = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    params: dict = {"classifier": start, "encoder": tree(0)["encoder"]}
    tx, _ = optimizers.make(
        "lars", lr=2.0, weight_decay=0.1, total_steps=10, adapt_classifiers=True
    )
    left_out, _ = optimizers.make("lars", lr=2.0, weight_decay=0.1, total_steps=10)
    state = tx.init(params)
    # A run that began without the ratio continues with it.
    assert jax.tree.structure(state) == jax.tree.structure(left_out.init(params))
    expected, memory, published = leaves(params), {}, lars(2.0, 0.1)
    for i in range(3):
        dense = tree(i + 1)["projector"]["Dense_0"]  # [4, 5] and [5]
        grads = {"encoder": tree(i + 1)["encoder"]}
        grads["classifier"] = {name: x[..., :3] for name, x in dense.items()}
        for path, g in leaves(grads).items():
            expected[path], memory[path] = published(
                expected[path], g, memory.get(path, 0.0), path[-1] == "kernel", i
            )
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        assert_same(leaves(params), expected)


def test_lars_fits_a_classifier_that_starts_at_zero():
    """Of separable features, at the rate of SimCLRv2's fine-tuning."""
    features = jnp.eye(10)
    params = {"classifier": {"kernel": jnp.zeros((10, 10)), "bias": jnp.zeros(10)}}
    tx, _ = optimizers.make(
        "lars", lr=0.16, schedule="cosine", total_steps=720, momentum=0.9
    )

    def loss(params):
        layer = params["classifier"]
        logits = features @ layer["kernel"] + layer["bias"][None]
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.arange(10)
        ).mean()

    @jax.jit
    def trained():
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=720)[0][0]

    assert loss(trained()) < 0.2 < loss(params)  # ln 10 = 2.3 at zero


def adam(lr, weight_decay, *, decoupled):
    """arXiv:1412.6980 algorithm 1; arXiv:1711.05101 algorithm 2 has both decays."""

    def update(w, g, memory, kernel, i):
        m, v = memory or (0.0, 0.0)
        decay = weight_decay * w if kernel else 0.0
        if not decoupled:
            g = g + decay
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        direction = m / (1 - 0.9 ** (i + 1))
        direction /= np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8
        if decoupled:
            direction = direction + decay
        return w - lr * direction, (m, v)

    return update


@pytest.mark.parametrize("name, decoupled", [("adam", False), ("adamw", True)])
def test_adam_and_adamw(name, decoupled):
    tx, _ = optimizers.make(name, lr=0.01, weight_decay=0.5, total_steps=10)
    actual = train(tx, 3)[-1]
    assert_same(actual, train_by_numpy(adam(0.01, 0.5, decoupled=decoupled), 3))
    other = train_by_numpy(adam(0.01, 0.5, decoupled=not decoupled), 3)
    assert np.abs(actual[KERNEL] - other[KERNEL]).max() > 1e-3


@pytest.mark.parametrize(
    "momentum, nesterov", [(0.9, False), (0.9, True), (0.0, False)]
)
def test_sgd(momentum, nesterov):
    def update(w, g, v, kernel, i):
        g = g + 0.1 * w if kernel else g
        v = momentum * v + g
        return w - 0.01 * (g + momentum * v if nesterov else v), v

    tx, _ = optimizers.make(
        "sgd",
        lr=0.01,
        weight_decay=0.1,
        total_steps=10,
        momentum=momentum,
        nesterov=nesterov,
    )
    assert_same(train(tx, 3)[-1], train_by_numpy(update, 3))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_follows_the_schedule_and_decays_kernels_only(name):
    options = {
        "lr": 0.1,
        "lr_scaling": "sqrt",
        "batch_size": 4,
        "schedule": "cosine",
        "warmup_steps": 2,
        "total_steps": 4,
    }
    tx, schedule = optimizers.make(name, weight_decay=0.5, **options)
    first, second = train(tx, 2)
    assert schedule(0) == 0.0
    assert_same(first, leaves(tree(0)))
    np.testing.assert_allclose(schedule(2), 0.2, rtol=1e-6)
    free, _ = optimizers.make(name, weight_decay=0.0, **options)
    undecayed = train(free, 2)[-1]
    for path, w in second.items():
        assert (w != undecayed[path]).any() == (path[-1] == "kernel")


def test_adam_without_decay_is_the_default():
    tx, schedule = optimizers.make(lr=1e-3, total_steps=5)
    assert_same(train(tx, 3)[-1], train_by_numpy(adam(1e-3, 0.0, decoupled=False), 3))
    assert schedule(0) == schedule(4) == np.float32(1e-3)


# Schedules


def test_cosine_with_warm_up():
    schedule = optimizers.make_schedule(
        lr=0.4, batch_size=8, schedule="cosine", warmup_steps=10, total_steps=110
    )
    expected = {
        0: 0.0,
        1: 0.04,
        5: 0.2,
        10: 0.4,  # the end of the warm-up
        35: 0.2 * (1 + math.cos(math.pi / 4)),
        60: 0.2,  # the middle of the cosine
        110: 0.0,
        200: 0.0,
    }
    for step, lr in expected.items():
        np.testing.assert_allclose(schedule(step), lr, atol=1e-7)
        assert jax.jit(schedule)(step) == schedule(step)
    every = np.array([schedule(step) for step in range(111)])
    assert (np.diff(every[:11]) > 0).all()
    assert (np.diff(every[10:]) < 0).all()


def test_constant_takes_the_warm_up_too():
    schedule = optimizers.make_schedule(
        lr=0.4, batch_size=8, warmup_steps=4, total_steps=10
    )
    expected = [0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    np.testing.assert_allclose([schedule(i) for i in range(7)], expected, rtol=1e-6)


@pytest.mark.parametrize("name", optimizers.SCHEDULES)
def test_without_warm_up_the_first_step_has_the_peak(name):
    schedule = optimizers.make_schedule(
        lr=0.4, batch_size=8, schedule=name, total_steps=10
    )
    np.testing.assert_allclose(schedule(0), 0.4, rtol=1e-6)


@pytest.mark.parametrize("name", optimizers.SCHEDULES)
@pytest.mark.parametrize("total_steps", [0, 3, 4])
def test_a_warm_up_as_long_as_the_training_is_all_of_it(name, total_steps):
    schedule = optimizers.make_schedule(
        lr=0.4, batch_size=8, schedule=name, warmup_steps=4, total_steps=total_steps
    )
    expected = [0.0, 0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose([schedule(i) for i in range(5)], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "scaling, lr, batch_size, peak",
    [
        ("none", 1e-3, 512, 1e-3),
        # SimCLR, arXiv:2002.05709 section 2.2 and B.1: equal at batch 4,096.
        ("linear", 0.3, 4096, 4.8),
        ("sqrt", 0.075, 4096, 4.8),
        ("linear", 0.3, 256, 0.3),
        ("sqrt", 0.075, 256, 1.2),
    ],
)
def test_scaling_of_the_learning_rate(scaling, lr, batch_size, peak):
    schedule = optimizers.make_schedule(
        lr=lr, lr_scaling=scaling, batch_size=batch_size, total_steps=10
    )
    np.testing.assert_allclose(schedule(3), peak, rtol=1e-6)
    assert schedule(3).dtype == jnp.float32


# Requests that are wrong


@pytest.mark.parametrize(
    "options, names",
    [
        ({"name": "lamb"}, optimizers.OPTIMIZERS),
        ({"schedule": "linear"}, optimizers.SCHEDULES),
        ({"lr_scaling": "cube"}, optimizers.LR_SCALINGS),
    ],
)
def test_an_unknown_name_lists_those_known(options, names):
    with pytest.raises(ValueError, match="unknown") as error:
        optimizers.make(**options, lr=0.1, total_steps=10)
    assert all(name in str(error.value) for name in names)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="negative"):
        optimizers.make(lr=0.1, warmup_steps=-1, total_steps=10)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": 0.0}, r"lr must be above 0 .*got 0\.0"),
        ({"lr": -0.1}, r"lr must be above 0 .*got -0\.1"),
        ({"lr": float("nan")}, "lr must .*got nan"),
        ({"lr": float("inf")}, "lr must .*got inf"),
        ({"lr": 1e39}, r"lr must .*got 1e\+39"),
        ({"lr": 1e-39}, "lr must .*got 1e-39"),
        ({"lr": 1e38, "batch_size": 4096, "lr_scaling": "sqrt"}, "times 64.* 6.4e"),
        ({"lr": 2e-38, "batch_size": 8, "lr_scaling": "linear"}, "batch of 8, .*e-40"),
        ({"lr": 0.1, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"lr": 0.1, "weight_decay": -1e-4}, "weight_decay .*got -0.0001"),
        ({"lr": 0.1, "weight_decay": 1e39}, r"weight_decay .*got 1e\+39"),
    ],
)
def test_a_rate_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.make(**options, total_steps=10)


def test_steps_of_a_tenth():
    """MoCo v1: 200 epochs, dropping at 120 and 160; here an epoch is one step."""
    schedule = optimizers.make_schedule(
        lr=0.03, batch_size=256, schedule="step", warmup_steps=2, total_steps=200
    )
    expected = {1: 0.015, 2: 0.03, 119: 0.03, 120: 3e-3, 159: 3e-3, 160: 3e-4}
    for step, lr in expected.items():
        np.testing.assert_allclose(jax.jit(schedule)(step), lr, rtol=1e-5)
