"""Losses and augmentation under JAX's strictest settings, which a user may have set.

Strict promotion takes no array of one type for one of another, and no rank is raised in
silence. Both are judged when a function is traced: nothing is computed here.
"""

import inspect

import jax
import jax.numpy as jnp
import pytest

from simclr_jax import augment, losses

KEY = jax.eval_shape(lambda: jax.random.key(0))
Z = (6, 4)

LOSSES = {
    "l2_normalize": lambda a, b: losses.l2_normalize(a),
    "nt_xent": losses.nt_xent,
    "nt_xent by blocks": lambda a, b: losses.nt_xent(a, b, block_size=4),
    "nt_xent with negatives": lambda a, b: losses.nt_xent(a, b, negatives=b),
    "nt_xent decoupled": lambda a, b: losses.nt_xent(a, b, decoupled=True),
    "nt_xent weighted": lambda a, b: losses.nt_xent(a, b, decoupled="weighted"),
    "barlow_twins": losses.barlow_twins,
    "vicreg": losses.vicreg,
    "info_nce": losses.info_nce,
    "info_nce with negatives": lambda a, b: losses.info_nce(a, b, b),
    "byol_regression": losses.byol_regression,
    "distillation": losses.distillation,
    "contrastive_accuracy": losses.contrastive_accuracy,
}
EVERYTHING = augment.View(blur=0.5, solarize=0.5, rotation=9.0, shear=9.0, erase=0.5)
AUGMENT = {
    "two_views": lambda key, x: augment.two_views(key, x, size=20),
    "augment": lambda key, x: augment.augment(key, x, view=EVERYTHING, size=20),
    "random_resized_crop": lambda key, x: augment.random_resized_crop(key, x, size=20),
    "random_affine": lambda key, x: augment.random_affine(key, x, rotation=9, shear=9),
    "flip": augment.flip,
    "color_jitter": augment.color_jitter,
    "grayscale": augment.grayscale,
    "gaussian_blur": augment.gaussian_blur,
    "solarize": augment.solarize,
    "erase": augment.erase,
    "center": lambda key, x: augment.center(x, size=20),
    "to_float": lambda key, x: augment.to_float(x),
}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def test_strictness_is_on():
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.ones(2, jnp.float32) + jnp.ones(2, jnp.bfloat16)
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones([2, 2]) + jnp.ones(2)


@pytest.mark.parametrize("calls, module", [(LOSSES, losses), (AUGMENT, augment)])
def test_no_public_function_is_forgotten(calls, module):
    home = module.__name__
    public = {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and function.__module__.startswith(home)
    }
    assert {name.split()[0] for name in calls} == public


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient(name, dtype):
    def mean(a, b):
        return LOSSES[name](a, b).mean()

    z = jax.ShapeDtypeStruct(Z, dtype)
    value, gradients = jax.eval_shape(jax.value_and_grad(mean, (0, 1)), z, z)
    assert value.dtype == jnp.float32
    assert [x.dtype for x in gradients] == [dtype, dtype]


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENT)
def test_an_operation(name, channels, dtype):
    images = jax.ShapeDtypeStruct((2, 24, 28, channels), dtype)
    views = jax.eval_shape(AUGMENT[name], KEY, images)
    assert {x.dtype for x in jax.tree.leaves(views)} == {jnp.dtype(jnp.float32)}
