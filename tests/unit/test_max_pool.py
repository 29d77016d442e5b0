"""The stem's max-pool, compared with flax's and with a loop in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simclr_jax.encoders import max_pool

SHAPES = [(2, 8, 8, 3), (1, 7, 5, 2), (3, 1, 2, 1)]


def images(shape, seed=0):
    # Whole numbers have many ties.
    return np.random.default_rng(seed).integers(-3, 3, shape).astype(np.float32)


def pooled(x, out_gradient):
    """The windows in a loop: the values, and the gradient at the first maximum."""
    _, height, width, _ = x.shape
    y, dx = np.zeros_like(out_gradient), np.zeros_like(x)
    for b, i, j, c in np.ndindex(*y.shape):
        rows = [r for r in range(2 * i - 1, 2 * i + 2) if 0 <= r < height]
        columns = [k for k in range(2 * j - 1, 2 * j + 2) if 0 <= k < width]
        places = [(r, k) for r in rows for k in columns]
        values = [x[b, r, k, c] for r, k in places]
        y[b, i, j, c] = max(values)
        r, k = places[int(np.argmax(values))]
        dx[b, r, k, c] += out_gradient[b, i, j, c]
    return y, dx


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradient_equal_a_loop_also_at_ties(shape):
    x = images(shape)
    batch, height, width, channels = shape
    out = (batch, (height + 1) // 2, (width + 1) // 2, channels)
    gradient = images(out, seed=1)
    y, transpose = jax.vjp(max_pool, jnp.asarray(x))
    expected, dx = pooled(x, gradient)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(transpose(jnp.asarray(gradient))[0], dx)


def test_it_equals_flax_and_has_a_forward_derivative():
    x = jax.random.normal(jax.random.key(0), (2, 9, 6, 4))

    def flax_pool(x):
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # pyright: ignore

    np.testing.assert_array_equal(max_pool(x), flax_pool(x))
    t = jax.random.normal(jax.random.key(1), x.shape)
    step = 1e-3
    difference = (flax_pool(x + step * t) - flax_pool(x - step * t)) / (2 * step)
    _, tangent = jax.jvp(max_pool, (x,), (t,))
    close = np.isclose(tangent, difference, atol=1e-2)
    assert close.mean() > 0.95  # where the largest value changes, they differ


def test_bfloat16_stays_bfloat16():
    x = jnp.ones([1, 4, 4, 1], jnp.bfloat16)
    assert max_pool(x).dtype == jnp.bfloat16
    assert jax.grad(lambda x: max_pool(x).sum().astype(jnp.float32))(x).dtype == x.dtype
