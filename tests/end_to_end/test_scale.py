"""Counts of the benchmarks about scale against published figures and closed forms."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import scale
from benchmarks.memory import flops, gradient
from simclr_jax.encoders import ResNet


def flops_of(function, *arguments):
    return flops(jax.make_jaxpr(function)(*arguments).jaxpr, zeros=False)


def forward_flops(size, batch, **fields):
    """Of an encoder's forward pass."""
    encoder = ResNet(**fields)
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: encoder.init(jax.random.key(0), x, train=False), images
    )
    return flops_of(lambda v, x: encoder.apply(v, x, train=False), variables, images)


# "_ops" of torchvision 0.28's ResNet*_Weights: 1e9 multiplications of one image of
# 224 px, the classifier of 1000 classes included.
@pytest.mark.parametrize(
    "depth, features, expected",
    [
        (18, 512, 1.814),
        (50, 2048, 4.089),
        (152, 2048, 11.514),
    ],
)
def test_forward_flops_are_torchvisions(depth, features, expected):
    found = forward_flops(224, 1, depth=depth) / 2
    assert round((found + features * 1000) / 1e9, 3) == expected


@pytest.mark.parametrize("sk", [False, True])
def test_flops_of_a_step(sk):
    """Each product of the forward pass has two gradients, the stem's has one; micro-
    batches compute the forward pass twice, all of them."""
    size, batch, dim = 64, 8, 128
    network = {"depth": 10, "width": 0.25, "sk": sk}
    width, views = 128, 2 * batch
    stem = 3 * 8 * 3**2 if sk else 3 * 16 * 7**2
    encoder = forward_flops(size, views, **network)
    head = 2 * views * (2 * width * width + width * dim)
    stem_flops = 2 * views * (size // 2) ** 2 * stem
    similarity = 2 * views**2 * dim  # once more for contrastive_accuracy
    network_flops = encoder + head

    fields = {"size": size, "batch": batch, "layers": 3, **network}
    step, arguments = gradient(**fields)
    once = 3 * network_flops - stem_flops + 4 * similarity
    assert flops_of(step, *arguments) == once

    step, arguments = gradient(**fields, microbatch=2)
    assert flops_of(step, *arguments) == once + network_flops


def test_the_zeros_of_a_strided_convolution():
    """8x8 to 4x4 by 3x3: the gradient by the input has 4 of 16 products, not 16."""

    def convolve(x, kernel):
        return jax.lax.conv(x, kernel, (2, 2), "SAME").sum()

    x, kernel = jnp.ones([1, 3, 8, 8]), jnp.ones([5, 3, 3, 3])
    program = jax.make_jaxpr(jax.grad(convolve))(x, kernel).jaxpr
    forward_pass = 2 * 4 * 4 * 5 * 3 * 9
    assert flops(program, zeros=False) == 2 * forward_pass
    assert flops(program) == 5 * forward_pass


def test_what_a_small_network_keeps():
    """ReLU's output and sign, and the scaled output; not the scale for every row."""
    rows, inputs, hidden = 7, 3, 5

    def loss(params, x):
        first, scale, last = params
        return ((jax.nn.relu(x @ first) * scale[None]) @ last).sum(), None

    params = (jnp.ones([inputs, hidden]), jnp.ones(hidden), jnp.ones([hidden, 2]))
    found = scale.kept(loss, params, jnp.ones([rows, inputs]))
    assert found == rows * hidden * (4 + 1 + 4)
