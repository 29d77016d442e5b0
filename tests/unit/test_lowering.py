"""`assert_lowers_for_cuda` notices what it is there to notice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import assert_lowers_for_cuda

X = jax.ShapeDtypeStruct((4, 3), jnp.float32)


def test_a_plain_function_passes():
    assert_lowers_for_cuda(jax.jit(jnp.sin), X)
    step = jax.jit(lambda state, key: state + 1, donate_argnums=0)
    key = jax.eval_shape(lambda: jax.random.key(0))
    assert_lowers_for_cuda(step, X, key, donates=True)


def test_a_call_back_to_the_host_fails():
    def asks_the_host(x):
        return jax.pure_callback(np.sin, X, x)

    # JAX itself may refuse to lower such a call for a device that is not there.
    with pytest.raises((AssertionError, ValueError)):
        assert_lowers_for_cuda(jax.jit(asks_the_host), X)


def test_nothing_donated_fails():
    with pytest.raises(AssertionError):
        assert_lowers_for_cuda(jax.jit(jnp.sin), X, donates=True)


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_a_donated_input_that_no_output_reuses_fails():
    both = jax.jit(lambda a, b: (a + 1, b.sum()), donate_argnums=(0, 1))
    with pytest.raises(AssertionError):
        assert_lowers_for_cuda(both, X, X, donates=True)
