"""BatchNorm statistics of an untrained network against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simclr_jax.encoders import ResNet
from simclr_jax.evaluation import calibrate
from simclr_jax.heads import Projector
from simclr_jax.networks import Network


class Norm(nn.Module):
    """A BatchNorm of any decay."""

    momentum: float

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False, momentum=self.momentum)(x)


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.5])
def test_it_is_the_mean_of_the_batches_statistics(momentum):
    rng = np.random.default_rng(0)
    batches = (rng.normal(size=(3, 40, 5)) * [1, 9, 0.5, 1, 1] + 3).astype(np.float32)
    module = Norm(momentum)
    variables = module.init(jax.random.key(0), batches[0])

    def train(stats, batch):
        inputs = {"params": variables["params"], "batch_stats": stats}
        return module.apply(inputs, batch, mutable=["batch_stats"])[1]["batch_stats"]

    stats = calibrate(train, variables["batch_stats"], batches)["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], batches.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], batches.var(1).mean(0), rtol=1e-3)


@pytest.mark.thorough
def test_a_calibrated_network_normalises_its_images():
    """In inference mode it then does what training mode does, for one batch."""
    network = Network(ResNet(depth=10, width=0.0625, stem="cifar"), Projector(dim=8))
    images = jax.random.uniform(jax.random.key(1), (32, 16, 16, 3))
    params, stats = jax.jit(network.init)(jax.random.key(0), images)
    (h, z), _ = jax.jit(network.train)(params, stats, images)
    new = calibrate(lambda old, x: network.train(params, old, x)[1], stats, [images])
    found = jax.jit(network.embed)(params, new, images)
    np.testing.assert_allclose(found["h"], h, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(found["z"], z, rtol=1e-2, atol=1e-2)
    before = jax.jit(network.embed)(params, stats, images)
    assert jnp.std(before["z"]) < 0.5 * jnp.std(z)


def test_it_needs_a_batch():
    with pytest.raises(ValueError, match="no batches"):
        calibrate(lambda stats, batch: stats, {}, [])
