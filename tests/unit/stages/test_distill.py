"""Distillation on two devices: unlabelled and labelled images stay where they are."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TinyEncoder, squares

from simclr_jax import augment, devices, methods
from simclr_jax.heads import Projector
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages import distill

pytestmark = pytest.mark.usefixtures("compile_in_haste")
KEY = jax.random.key(0)
PLAIN = augment.View(flip=0.0, jitter=0.0, grayscale=0.0)
COLLECTIVE = re.compile(r"(all-to-all|all-gather|collective-permute|all-reduce)\(")


def classifier():
    """A network with its variables."""
    encoder, head = TinyEncoder(), Projector(layers=0)
    network = ClassifierNetwork(Network(encoder, head), 0, 4)
    method = methods.make("simclr", encoder, projector=head)
    blank = jnp.zeros((2, 16, 16, 3))
    return network, network.init(KEY, *method.init(KEY, blank), blank)


def gradient(parts):
    """The compiled loss and gradient, and its inputs."""
    network, (params, state) = classifier()
    teacher = jax.tree.map(lambda x: x + 0.1, (params, state))
    loss_fn = distill.make_loss(
        network,
        network,
        PLAIN,
        16,
        temperature=2.0,
        label_weight=0.3,
        parts=parts,
    )
    images, labels = squares(24, 0)
    batch = {
        "unlabelled": {"image": images[:16]},
        "labelled": {"image": images[16:], "label": labels[16:]},
    }
    whole = devices.whole()
    params, state, teacher = devices.put((params, state, teacher), whole)
    inputs = params, state, KEY, devices.place(batch) | {"teacher": teacher}
    function = jax.jit(jax.value_and_grad(loss_fn, has_aux=True), out_shardings=whole)
    return function.lower(*inputs).compile(), inputs


def test_two_devices_move_no_image_and_give_what_one_gives():
    compiled, inputs = gradient(parts=1)
    expected = compiled(*inputs)
    devices.use(2)
    try:
        compiled, inputs = gradient(parts=2)
        found = compiled(*inputs)
    finally:
        devices.use(1)
    moved = [x for x in compiled.as_text().splitlines() if COLLECTIVE.search(x)]
    assert any("all-reduce" in line for line in moved)  # each computes only its part
    for line in moved:
        output = line[: COLLECTIVE.search(line).start()]
        shapes = re.findall(r"\[([\d,]+)\]", output)
        largest = max([math.prod(map(int, x.split(","))) for x in shapes], default=0)
        assert largest < 16 * 16 * 3, line  # less than an image
    assert len(found[0][0].devices()) == 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        jax.device_get(found),
        jax.device_get(expected),
    )


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_what_was_joined_is_separated(parts):
    a, b = jnp.arange(24).reshape(8, 3), -jnp.arange(12).reshape(4, 3)
    joined = distill._joined(a, b, parts)
    block = 12 // parts
    for i in range(parts):  # a device's own rows stay in its block
        rows = joined[i * block : (i + 1) * block]
        own = [np.split(np.asarray(x), parts)[i] for x in (a, b)]
        np.testing.assert_array_equal(rows, np.concatenate(own))
    for one, other in zip(distill._separated(joined, 8, parts), (a, b), strict=True):
        np.testing.assert_array_equal(one, other)
