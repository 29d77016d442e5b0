"""The network below a classifier: what it keeps, what it trains, how it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_recipe
from lowering import assert_lowers_for_cuda
from tiny import TinyEncoder, squares, write_npz

from simclr_jax import augment, methods
from simclr_jax import training as train
from simclr_jax.heads import Projector
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages import classify, finetune
from simclr_jax.stages import run as stages

KEY = jax.random.key(0)
PLAIN = augment.View(
    crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0
)


@pytest.fixture(scope="module")
def pretrained():
    """A method's params and statistics after one step, so that both have moved."""
    method = methods.make("simclr", TinyEncoder(), projector=projector())
    params, model_state = jax.jit(method.init)(KEY, jnp.zeros((2, 16, 16, 3)))
    views = jax.random.uniform(KEY, (2, 8, 16, 16, 3))
    _, (model_state, _) = jax.jit(method.loss)(params, model_state, KEY, (*views,))
    return method, params, model_state


def projector():
    return Projector(layers=3, hidden=6, dim=5)


def network(from_layer):
    below = Network(TinyEncoder(), projector())
    return ClassifierNetwork(below, from_layer, num_classes=4)


@pytest.mark.parametrize("layer, width", [(0, 8), (1, 6), (2, 6), (3, 5)])
def test_keeps_the_layers_below_and_their_statistics(pretrained, layer, width):
    method, params, model_state = pretrained
    images = jax.random.uniform(KEY, (4, 16, 16, 3))
    net = network(layer)
    start, state = net.init(KEY, params, model_state, images)
    kept = {f"dense_{j}" for j in range(1, layer + 1)}
    assert {name for name in start["projector"] if name.startswith("dense")} == kept
    assert start["classifier"]["dense"]["kernel"].shape == (width, 4)
    # With a classifier that is not zero the logits are those of that level of embed.
    kernel = jax.random.normal(KEY, (width, 4))
    start["classifier"]["dense"] = {"kernel": kernel, "bias": jnp.ones(4)}
    logits, _ = net.logits(start, state, images, train=False)
    level = {0: "h", 3: "z"}.get(layer, f"head_{layer}")
    features = method.embed(params, model_state, images)[level]
    np.testing.assert_allclose(logits, features @ kernel + 1, rtol=1e-4, atol=1e-5)


def test_starts_at_uniform_predictions_and_trains_every_weight(pretrained):
    _, params, model_state = pretrained
    images, labels = squares(16, 0)
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    net = network(1)
    start = net.init(KEY, params, model_state, jnp.zeros((1, 16, 16, 3)))
    tx = optax.adam(1e-2)
    state = train.init_state(*jax.tree.map(jnp.copy, start), tx)
    step = train.make_step(finetune.make_loss(net, PLAIN, 16), tx)
    losses = []
    for _ in range(60):
        state, metrics = step(state, KEY, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(4), rel=1e-5)  # zero logits
    assert losses[-1] < 0.5
    moved = jax.tree.map(lambda a, b: not np.allclose(a, b), state.params, start[0])
    assert all(jax.tree.leaves(moved["encoder"]["Conv_0"]))
    assert moved["projector"]["dense_1"]["kernel"]
    assert all(jax.tree.leaves(moved["classifier"]))
    # BatchNorm is in training mode: its statistics follow the images.
    old = start[1]["batch_stats"]["encoder"]["BatchNorm_0"]["mean"]
    new = state.model_state["batch_stats"]["encoder"]["BatchNorm_0"]["mean"]
    assert not np.allclose(old, new)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_finetune_step_lowers_for_cuda(dtype):
    from simclr_jax.encoders import ResNet

    encoder = ResNet(depth=18, width=0.125, stem="cifar", dtype=dtype)
    method = methods.make("simclr", encoder, projector=projector())
    net = ClassifierNetwork(Network(encoder, projector()), 1, 10)
    tx = optax.adam(1e-3)

    def init():
        params, model_state = method.init(KEY, jnp.zeros((2, 16, 16, 3)))
        start = net.init(KEY, params, model_state, jnp.zeros((1, 16, 16, 3)))
        return train.init_state(*start, tx)

    batch = {
        "image": jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((8,), jnp.int32),
    }
    step = train.make_step(finetune.make_loss(net, augment.View(), 16), tx)
    key = jax.eval_shape(lambda: KEY)
    assert_lowers_for_cuda(step, jax.eval_shape(init), key, batch, donates=True)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.usefixtures("compile_in_haste")
def test_at_the_last_step_a_glance_trains_the_stages_own_network(tmp_path, monkeypatch):
    """Every weight: another key, order, learning rate or start would show."""
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    config.stages, config.probe.every_epochs = ("pretrain", "finetune"), 0
    config.epochs, config.finetune.every_epochs = 2, 2
    config.finetune.epochs, config.finetune.from_layer = 2, 1
    trained, score = [], classify.score

    def keep(experiment, network, params, model_state, size):
        trained.append(jax.device_get((params, model_state)))
        return score(experiment, network, params, model_state, size)

    monkeypatch.setattr(classify, "score", keep)
    stages.run(config, str(tmp_path / "run"))
    glance, pretrained, scratch = trained
    jax.tree.map(np.testing.assert_array_equal, glance, pretrained)
    kernels = [x[0]["encoder"]["stem_conv"]["kernel"] for x in (glance, scratch)]
    assert not np.allclose(*kernels)
