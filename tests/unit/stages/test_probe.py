"""The linear probe against scikit-learn; levels that do not disturb each other."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lowering import assert_lowers_for_cuda
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from simclr_jax import data
from simclr_jax.stages import linear, probe
from simclr_jax.stages.fit import fit_quietly
from simclr_jax.stages.linear import LinearProbe, folded
from simclr_jax.training import Plan, optimizers


def experiment(epochs, batch_size, lr=1e-2, weight_decay=0.0) -> Any:
    """As much of an Experiment as the training of a probe asks for."""

    def plan(stage, count):
        steps = count // batch_size
        fields = Plan(epochs * steps, steps, batch_size, 100, 100)
        return fields, fields.last_step

    def optimizer(stage, plan, total, lr_instead):
        return optimizers.make(
            "adam",
            lr=lr,
            weight_decay=weight_decay,
            schedule="cosine",
            total_steps=total,
        )

    return SimpleNamespace(
        config=SimpleNamespace(probe=SimpleNamespace(batch_size=batch_size)),
        plan=plan,
        optimizer=optimizer,
        order=lambda stage: (0,),
        key=lambda stage: jax.random.key(0),
    )


def trained(fitted, run):
    return fit_quietly(run, probe.training(run, fitted, "", {})).params


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    return (images[:1000], labels[:1000]), (images[1000:], labels[1000:])


def test_equals_scikit_learns_logistic_regression(digits):
    (x, y), (test_x, test_y) = digits
    fitted = LinearProbe(({"h": x}, y), ({"h": test_x}, test_y), 10)
    run = experiment(400, 250, weight_decay=1e-3)
    params = jax.device_get(trained(fitted, run)["h"])
    mean, sd = x.mean(0), x.std(0) + 1e-6
    reference = LogisticRegression(C=1.0, max_iter=2000).fit((x - mean) / sd, y)
    ours = (test_x - mean) / sd @ params["kernel"] + params["bias"]
    agree = (ours.argmax(1) == reference.predict((test_x - mean) / sd)).mean()
    assert agree > 0.98
    top1 = fitted.scores({"h": params})["h"]["top1"]
    assert top1 == pytest.approx(
        reference.score((test_x - mean) / sd, test_y), abs=0.01
    )


def test_separable_features_are_probed_perfectly():
    labels = np.arange(60) % 3
    features = np.eye(3, dtype=np.float32)[labels] * [[1000.0, 0.001, 1.0]]
    pair = ({"h": features.astype(np.float32)}, labels)
    fitted = LinearProbe(pair, pair, 3)
    assert fitted.scores(trained(fitted, experiment(100, 20)))["h"] == {
        "top1": 1.0,
        "top3": 1.0,
    }


def test_a_probe_of_raw_features_takes_them_as_they_are():
    """One step of SGD from zero against its closed form, at any scale."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(12, 5)) * [1e-3, 1, 50, 1, 1] + 4).astype(np.float32)
    y = np.arange(12) % 3
    fitted = LinearProbe(({"h": x}, y), ({"h": 2 * x}, y), 3, standardize=False)
    run = experiment(1, 12)
    run.optimizer = lambda *_: (optax.sgd(0.1), lambda step: 0.1)
    params = trained(fitted, run)["h"]
    slope = (np.eye(3)[y] - 1 / 3) / 12
    np.testing.assert_allclose(params["kernel"], 0.1 * x.T @ slope, 1e-4, 1e-7)
    np.testing.assert_allclose(params["bias"], 0.1 * slope.sum(0), atol=1e-7)
    logits = 2 * x @ (0.1 * x.T @ slope) + 0.1 * slope.sum(0)
    right = (logits.argmax(1) == y).mean()
    assert fitted.scores({"h": params})["h"]["top1"] == pytest.approx(right)


def test_on_a_gpu_features_are_standardised_there(digits, monkeypatch):
    """The same classifier, whether XLA or NumPy does it; the caller's array stays."""
    (x, y), (test_x, test_y) = digits
    run, made = experiment(3, 250), {}
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        bank = jnp.asarray(x)
        fitted = LinearProbe(({"h": bank}, y), ({"h": test_x}, test_y), 10)
        made[backend] = trained(fitted, run)["h"]["kernel"]
        np.testing.assert_array_equal(bank, x)
    np.testing.assert_allclose(made["cpu"], made["gpu"], atol=1e-3)


def test_every_level_trains_as_if_alone(digits):
    (x, y), (test_x, test_y) = digits
    train = {"h": x, "z": x[:, :20]}
    test = {"h": test_x, "z": test_x[:, :20]}
    run = experiment(3, 250)
    together = trained(LinearProbe((train, y), (test, test_y), 10), run)
    z = LinearProbe(({"z": train["z"]}, y), ({"z": test["z"]}, test_y), 10)
    alone = trained(z, run)
    np.testing.assert_allclose(together["z"]["kernel"], alone["z"]["kernel"], atol=1e-5)


def test_loss_is_the_sum_of_mean_cross_entropies():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(5, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 4)).astype(np.float32)
    params = {"h": {"kernel": jnp.asarray(kernel), "bias": jnp.arange(4.0)}}
    batch = {"h": jnp.asarray(h), "label": jnp.array([0, 1, 2, 3, 0])}
    loss, _ = linear.loss_fn(params, {}, None, batch)
    logits = h @ kernel + np.arange(4.0)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), [0, 1, 2, 3, 0]]
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


def test_the_probe_step_lowers_for_cuda():
    from simclr_jax import training as train

    tx = optax.adam(1e-2)
    params = {"h": {"kernel": jnp.zeros((8, 4)), "bias": jnp.zeros(4)}}
    state = jax.eval_shape(lambda: train.init_state(params, {}, tx))
    dataset = {"h": jnp.zeros((50, 8)), "label": jnp.zeros(50, jnp.int32)}
    batch = {"index": jnp.zeros(10, jnp.int32), "dataset": dataset}
    step = train.make_step(linear.loss_fn, tx, prepare=data.take)
    key = jax.eval_shape(lambda: jax.random.key(0))
    assert_lowers_for_cuda(step, state, key, batch, donates=True)


def test_a_folded_classifier_takes_features_as_they_are():
    """Its logits are those of the standardised features, by NumPy's own std."""
    rng = np.random.default_rng(0)
    train = rng.normal(3, [0.5, 2, 1], (9000, 3)).astype(np.float32)
    train[:, 2] = 0.25  # constant: it says nothing, and its weight has stayed 0
    kernel = rng.normal(size=(3, 4))
    kernel[2] = 0
    classifier = {"kernel": kernel, "bias": rng.normal(size=4)}
    test = rng.normal(3, 1, (5, 3))
    plain = folded(classifier, train, standardize=False)
    np.testing.assert_allclose(plain["kernel"], kernel, rtol=1e-6)
    found = folded(classifier, train, standardize=True)
    exact = train.astype(np.float64)
    scaled = (test - exact.mean(0, keepdims=True)) / (
        exact.std(0, keepdims=True) + 1e-6
    )
    wanted = scaled @ kernel + classifier["bias"][None]
    logits = test @ found["kernel"] + found["bias"][None]
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
