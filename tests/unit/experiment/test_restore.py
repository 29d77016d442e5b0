"""What a pretraining checkpoint gives to the stages after it, and how it is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TinyEncoder

from simclr_jax import methods
from simclr_jax.errors import RequestError
from simclr_jax.experiment.restore import Restored, of_network
from simclr_jax.heads import Projector


def network(features=8, hidden=6):
    """Shapes of a method that has a target network."""
    method = methods.make(
        "moco",
        TinyEncoder(features),
        projector=Projector(hidden=hidden, dim=4),
        queue_size=8,
        bn_groups=1,
    )
    return lambda: method.init(jax.random.key(0), jnp.zeros((2, 16, 16, 3)))


@pytest.fixture(scope="module")
def restored():
    params, model_state = jax.jit(network())()
    # Orbax gives NumPy arrays. The target has moved away from the network.
    params, model_state = jax.device_get((params, model_state))
    target = jax.tree.map(lambda x: x + 1, model_state["target"])
    return Restored(3, params, model_state | {"target": target})


@pytest.mark.parametrize("taken", ["online", "target"])
def test_it_gives_the_weights_of_encoder_and_projector(restored, taken):
    step, params, model_state = getattr(restored, taken)(jax.eval_shape(network()))
    stored = restored.params
    if taken == "target":
        stored = restored.model_state["target"]["params"]
    assert step == 3
    assert set(params) == set(model_state["batch_stats"]) == {"encoder", "projector"}
    for part in params:
        jax.tree.map(np.testing.assert_array_equal, params[part], stored[part])


@pytest.mark.parametrize("taken", ["online", "target"])
@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"hidden": 5},
            r"config\.projector: projector\.[\w.]+ is \(.*6.*\) in the "
            r"checkpoint, \(.*5.*\) in the recipe",
        ),
        (
            {"features": 7},
            r"config\.encoder: encoder\.[\w.]+ is \(.*8.*\) in the checkpoint, "
            r"\(.*7.*\) in the recipe",
        ),
    ],
)
def test_another_shape_names_the_part_that_does_not_fit(
    restored, taken, changed, message
):
    with pytest.raises(RequestError, match=f"^{message}$"):
        getattr(restored, taken)(jax.eval_shape(network(**changed)))


def test_a_missing_layer_names_the_projector(restored):
    params = dict(restored.params)
    params["projector"] = {"dense_1": params["projector"]["dense_1"]}
    with pytest.raises(RequestError, match=r"^config\.projector: .* no projector\."):
        restored._replace(params=params).online(jax.eval_shape(network()))


def test_a_checkpoint_without_a_target_has_none_to_give(restored):
    stats = {"batch_stats": restored.model_state["batch_stats"]}
    with pytest.raises(RequestError, match=r"^config\.probe\.target: .* no target"):
        restored._replace(model_state=stats).target(jax.eval_shape(network()))


def test_what_is_beside_the_network_is_not_asked_for():
    network = ("encoder/stem/kernel", "projector/dense/kernel", "classifier/bias")
    for place in ("params", "model_state/batch_stats", "model_state/target/params"):
        assert all(of_network(f"{place}/{leaf}") for leaf in network)
        assert not of_network(f"{place}/encoders/x")
    for leaf in ("params/predictor/kernel", "model_state/queue", "opt_state/encoder/x"):
        assert not of_network(leaf)
