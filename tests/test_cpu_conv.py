"""The convolution's gradients against XLA's own, and where they apply."""

from functools import partial

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from simclr_jax import cpu_conv, methods
from simclr_jax.encoders import ResNet
from simclr_jax.heads import Projector

NHWC = ("NHWC", "HWIO", "NHWC")
KEYS = jax.random.split(jax.random.key(0), 3)


def gradients(conv, x, kernel, strides, padding, **options):
    """(output, gradient by x, by kernel) for one random direction."""
    conv = partial(
        conv, window_strides=strides, padding=padding, dimension_numbers=NHWC, **options
    )
    y, pull = jax.vjp(conv, x, kernel)
    # Quarters: the same numbers in every precision.
    direction = np.random.default_rng(0).integers(-8, 9, y.shape) / 4
    return y, *pull(jnp.asarray(direction, y.dtype))


def assert_same(one, other, tolerance=1e-5):
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(
    "size, channels, kernel, strides, padding",
    [
        ((8, 8), 3, (3, 3), (1, 1), "SAME"),  # a stem
        ((8, 8), 40, (3, 3), (1, 1), "SAME"),  # so many channels that XLA does it
        ((8, 8), 4, (1, 1), (1, 1), "VALID"),
        ((9, 7), 4, (1, 1), (2, 2), "SAME"),  # pixels that no output sees
        ((8, 8), 4, (3, 3), (2, 2), ((1, 1), (1, 1))),
        ((8, 8), 70, (3, 3), (2, 2), ((1, 1), (1, 1))),
        ((9, 7), 4, (3, 3), (2, 2), ((1, 1), (1, 1))),  # odd sides
        ((9, 8), 4, (3, 3), (2, 2), "SAME"),  # uneven padding
        ((14, 15), 3, (7, 7), (2, 2), ((3, 3), (3, 3))),
        ((11, 11), 3, (3, 2), (3, 2), ((0, 2), (1, 0))),
        ((12, 12), 3, (2, 2), (4, 4), "VALID"),  # gaps between windows
        ((70, 70), 3, (3, 3), (1, 1), "SAME"),  # a chunk of one image
    ],
)
def test_gradients_equal_xlas(size, channels, kernel, strides, padding):
    x = jax.random.normal(KEYS[0], (6, *size, channels))
    w = jax.random.normal(KEYS[1], (*kernel, channels, 5))
    ours = jax.jit(
        lambda x, w: gradients(cpu_conv.conv_general_dilated, x, w, strides, padding)
    )(x, w)
    assert_same(ours, gradients(lax.conv_general_dilated, x, w, strides, padding))


@pytest.mark.parametrize(
    "options",
    [
        {"feature_group_count": 2},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1)},
    ],
)
def test_other_convolutions_are_handed_on(options):
    groups = options.get("feature_group_count", 1)
    x = jax.random.normal(KEYS[0], (2, 8, 8, 4))
    w = jax.random.normal(KEYS[1], (3, 3, 4 // groups, 6))
    padding = ((1, 1), (1, 1))
    ours, theirs = (
        gradients(conv, x, w, (1, 1), padding, **options)
        for conv in (cpu_conv.conv_general_dilated, lax.conv_general_dilated)
    )
    assert_same(ours, theirs, 1e-6)


def test_half_precision_sums_in_float32():
    """The kernel's gradient is a sum over 2,304 positions, too many for bfloat16."""
    x = jax.random.normal(KEYS[0], (4, 24, 24, 3), jnp.bfloat16)
    w = jax.random.normal(KEYS[1], (3, 3, 3, 5), jnp.bfloat16)
    ours = gradients(cpu_conv.conv_general_dilated, x, w, (2, 2), "SAME")
    exact = gradients(
        lax.conv_general_dilated,
        *(a.astype(jnp.float32) for a in (x, w)),
        (2, 2),
        "SAME",
    )
    assert ours[2].dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(ours[2], np.float32), exact[2], atol=0.02 * np.abs(exact[2]).max()
    )


@pytest.mark.parametrize("depth, stem", [(18, "cifar"), (50, "imagenet")])
def test_a_methods_gradients_equal_the_plain_ones(depth, stem, monkeypatch):
    """The whole encoder, in float32, to 1e-4 of each gradient's largest entry."""
    encoder = ResNet(depth=depth, width=0.125, stem=stem, init_scheme="pytorch")
    method = methods.make("simclr", encoder, projector=Projector(dim=16))
    views = jax.random.uniform(KEYS[0], (2, 8, 32, 32, 3))
    params, state = jax.jit(method.init)(KEYS[1], views[0])

    def gradient():
        loss = jax.jit(jax.grad(lambda p: method.loss(p, state, KEYS[2], (*views,))[0]))
        return loss(params)

    ours = gradient()
    monkeypatch.setattr(cpu_conv, "_conv", cpu_conv._plain)
    plain = gradient()
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(plain))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale)


def test_a_gpus_program_has_no_trace_of_it():
    """Lowered for CUDA, value and gradients are three convolutions, and no loop."""
    conv = nn.Conv(
        8, (3, 3), strides=2, conv_general_dilated=cpu_conv.conv_general_dilated
    )
    x = jnp.zeros((4, 16, 16, 3))
    variables = conv.init(KEYS[0], x)

    def both(variables, x):
        return jax.value_and_grad(lambda v, x: conv.apply(v, x).sum(), (0, 1))(
            variables, x
        )

    def operations(platform):
        exported = jax.export.export(jax.jit(both), platforms=[platform])(variables, x)
        text = exported.mlir_module()
        return [text.count(f"stablehlo.{op}") for op in ("convolution", "while")]

    assert operations("cuda") == [3, 0]
    assert operations("cpu") == [
        1 + 4,
        1,
    ]  # forward, four remainders, the kernel's scan
