"""The pretraining loss around a method: labels, views, what reaches the optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TinyEncoder, squares

from simclr_jax import augment, methods
from simclr_jax.heads import Classifier, Projector
from simclr_jax.stages import pretrain

KEY = jax.random.key(0)
# No colour operations: they take most of the compilation and nothing here needs them.
VIEWS = (augment.View(jitter=0.0, grayscale=0.0),) * 2


@pytest.fixture(scope="module")
def setting():
    method = methods.make("simclr", TinyEncoder(), projector=Projector(dim=4))
    images, labels = squares(8, 0)
    params, model_state = jax.jit(method.init)(KEY, jnp.zeros((2, 16, 16, 3)))
    # A classifier that is not zero: a gradient into h would show.
    kernel = jax.random.normal(KEY, (8, 4))
    head = {"dense": {"kernel": kernel, "bias": jnp.zeros(4)}}
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    batch["index"] = jnp.arange(8)
    return method, params | {"online_probe": head}, model_state, batch


def gradient(setting, batch, num_classes=4):
    method, params, model_state, _ = setting
    loss_fn = pretrain.make_loss(method, VIEWS, 16, num_classes)
    step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    return step(params, model_state, KEY, batch)


def test_labels_never_reach_the_encoder(setting):
    batch = setting[3]
    (_, (state_a, metrics)), grads = gradient(setting, batch)
    other = batch | {"label": (batch["label"] + 1) % 4}
    (_, (state_b, _)), other_grads = gradient(setting, other)
    for part in ("encoder", "projector"):
        jax.tree.map(np.testing.assert_array_equal, grads[part], other_grads[part])
    jax.tree.map(np.testing.assert_array_equal, state_a, state_b)
    # The online probe does see them.
    kernels = (g["online_probe"]["dense"]["kernel"] for g in (grads, other_grads))
    assert not np.allclose(*kernels)
    assert "h" not in metrics


def test_the_encoder_trains_as_if_there_were_no_online_probe(setting):
    (with_probe, (_, metrics)), grads = gradient(setting, setting[3])
    (without, (_, plain)), plain_grads = gradient(setting, setting[3], num_classes=0)
    np.testing.assert_allclose(metrics["loss"], without, rtol=1e-6)
    np.testing.assert_allclose(with_probe, without + metrics["online_loss"], rtol=1e-6)
    assert "online_loss" not in plain
    for part in ("encoder", "projector"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
            grads[part],
            plain_grads[part],
        )


def test_images_without_a_label_do_not_count(setting):
    method, params, model_state, batch = setting
    half = batch | {"label": batch["label"].at[4:].set(-1)}
    (_, (_, metrics)), _ = gradient(setting, half)
    # The same h by hand: the pair of views is a function of the key.
    key_views, key_method = jax.random.split(KEY)
    pair = augment.two_views(key_views, batch["image"], views=VIEWS, size=16)
    loss = jax.jit(partial(method.loss, features=True))
    _, (_, seen) = loss(params, model_state, key_method, pair)
    logits = Classifier(4).apply({"params": params["online_probe"]}, seen["h"])
    logits = np.asarray(logits, np.float64)[:4]
    log_z = np.log(np.exp(logits).sum(1))
    labels = np.asarray(batch["label"][:4])
    expected = (log_z - logits[np.arange(4), labels]).mean()
    np.testing.assert_allclose(metrics["online_loss"], expected, rtol=1e-4)
    accuracy = (logits.argmax(1) == labels).mean()
    np.testing.assert_allclose(metrics["online_accuracy"], accuracy)


def test_the_watch_speaks_when_the_spread_falls():
    watch = pretrain.collapse_watch(0.1)
    said = [bool(watch({"embedding_std": x})) for x in (1, 0.09, 0.01, 0.2, 0.05)]
    assert said == [False, True, False, False, True]
    assert watch({}) is None
    assert pretrain.collapse_watch(0.0)({"embedding_std": 0.0}) is None
