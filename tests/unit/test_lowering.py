"""The tests' own check of lowered programs: each part of it can fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import assert_lowers_for_cuda

STATE = {"a": jax.ShapeDtypeStruct((3,), jnp.float32), "b": jnp.zeros(())}


def move(state, x):
    return jax.tree.map(lambda leaf: leaf + x, state)


def test_a_donating_step_passes():
    step = jax.jit(move, donate_argnums=0)
    assert_lowers_for_cuda(step, STATE, 1.0, donates=True)


def test_a_step_that_does_not_donate_fails():
    assert_lowers_for_cuda(jax.jit(move), STATE, 1.0)
    with pytest.raises(AssertionError, match="0 of 2 leaves"):
        assert_lowers_for_cuda(jax.jit(move), STATE, 1.0, donates=True)


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_a_leaf_that_no_output_can_replace_fails():
    step = jax.jit(
        lambda state, x: {"b": state["b"] + state["a"].sum() + x}, donate_argnums=0
    )
    with pytest.raises(AssertionError, match="1 of 2 leaves"):
        assert_lowers_for_cuda(step, STATE, 1.0, donates=True)


def pure(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda y: np.sin(y), shape, x)


def printing(x):
    jax.debug.print("{}", x)
    return x


def in_a_loop(x):
    return jax.lax.scan(lambda carry, row: (carry, pure(row)), None, x)[1]


def in_a_branch(x):
    return jax.lax.cond(x.sum() > 0, jax.checkpoint(pure), lambda x: x, x)


@pytest.mark.parametrize("function", [pure, printing, in_a_loop, in_a_branch])
def test_a_callback_fails(function):
    with pytest.raises(AssertionError, match=r"host: \['(pure_callback|debug_\w+)'\]"):
        assert_lowers_for_cuda(jax.jit(function), jnp.zeros(3))


def test_what_cuda_cannot_do_fails():
    schur = jax.jit(jax.lax.linalg.schur)
    schur.lower(jnp.eye(2))  # a CPU can
    with pytest.raises(NotImplementedError, match=r"schur.*cuda"):
        assert_lowers_for_cuda(schur, jnp.eye(2))
