"""No image crosses devices: what the compiled train steps send, for every method.

On two devices, each with half of the batch and the whole state. The images are so large
compared with the network that nothing else has as many bytes as a few of them.
"""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small_methods import KEY, build

from benchmarks.collectives import sent
from simclr_jax import augment, data, devices, methods, training
from simclr_jax.heads import Predictor
from simclr_jax.stages import pretrain, programs

pytestmark = pytest.mark.usefixtures("compile_in_haste")

BATCH, SIZE = 16, 16
IMAGES = 4 * BATCH * SIZE * SIZE * 3  # bytes of one view of a batch
EMBEDDINGS = 4 * 2 * BATCH * (8 + 4)  # bytes of h and z of both views


def mesh():
    return jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))


def laid_out(tree, *axes):
    sharding = NamedSharding(mesh(), PartitionSpec(*axes))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )


def compiled(method, batch, loss_fn=None, **options):
    """The step's program: nothing runs."""
    tx = optax.sgd(0.1)

    def given(params, model_state, key, batch):
        return method.loss(params, model_state, key, *batch)

    step = training.make_step(
        loss_fn or given, tx, lambda p, s, n: method.update(p, s, n / 9), **options
    )
    images = jnp.zeros((2, SIZE, SIZE, 3))
    state = jax.eval_shape(lambda: training.init_state(*method.init(KEY, images), tx))
    key = jax.eval_shape(lambda: KEY)
    with jax.set_mesh(mesh()):
        lowered = step.lower(laid_out(state), laid_out(key), batch)
    return lowered.compile().as_text()


def made(case, **changes):
    """A method whose every weight is smaller than its embeddings."""
    if methods.has_predictor(case.partition("-")[0]):
        changes["predictor"] = Predictor(hidden=8)
    return build(case, **changes)


def halves():
    """Views and index of a batch, each device with half of it."""
    view = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.float32)
    return laid_out(((view, view), jax.ShapeDtypeStruct((BATCH,), jnp.int32)), "data")


def assert_embeddings_only(text):
    collectives = sent(text)
    # Without one, every device computes everything: no gradient has to be summed.
    assert "all-reduce" in [name for name, _ in collectives]
    large = [found for found in collectives if found[1] > EMBEDDINGS]
    assert not large, f"more than all embeddings, {EMBEDDINGS} bytes: {large}"


def options(case):
    """A shuffle that does not have to move images, for methods with a shuffle."""
    takes = methods.defaults(case.partition("-")[0])
    return {"shuffle": False} if "shuffle" in takes else {}


@pytest.mark.parametrize(
    "case, microbatch",
    [(name, microbatch) for name in methods.names() for microbatch in (None, 4)]
    + [("simclr-memory", None), ("simclr-memory", 4), ("moco-symmetric", None)]
    + [("moco-memory_bank", None)],
)
def test_a_step_sends_gradients_statistics_and_embeddings(case, microbatch):
    """Views that were joined one after the other sent half of all images; `vmap` over
    views sent all activations, or left out the all-reduce."""
    method = made(case, microbatch=microbatch, **options(case))
    assert_embeddings_only(compiled(method, halves()))


@pytest.mark.parametrize("case, views", [("moco", 1), ("moco-symmetric", 2)])
@pytest.mark.parametrize("microbatch", [None, 4])
def test_spread_keys_change_places_in_one_exchange(case, views, microbatch):
    """A device sends the half of its images that belongs to the other one, and receives
    as many. XLA counts those that stay as part of the result."""
    text = compiled(made(case, shuffle="spread", microbatch=microbatch), halves())
    large = [found for found in sent(text) if found[1] > EMBEDDINGS]
    assert {name for name, _ in large} == {"all-to-all"}
    assert sum(size for _, size in large) == views * IMAGES / 2
    assert "all-reduce" in [name for name, _ in sent(text)]


def test_a_run_on_two_devices_spreads_keys_in_one_exchange():
    """As a stage makes its step: it shows the mesh to the method."""
    method, tx = made("moco", shuffle="spread"), optax.sgd(0.1)

    def loss_fn(params, model_state, key, batch):
        pair = (batch["a"], batch["b"])
        return method.loss(params, model_state, key, pair, batch["index"])

    devices.use(2)
    try:
        images = jnp.zeros((2, SIZE, SIZE, 3))
        params = jax.eval_shape(lambda: method.init(KEY, images))
        state = jax.eval_shape(lambda p: training.init_state(*p, tx), params)
        state = devices.laid_out(state, devices.whole())
        step = programs.step(loss_fn, tx, None, state, several=False)
        (a, b), index = devices.laid_out(halves(), devices.rows())
        batch = {"a": a, "b": b, "index": index}
        text = step.lower(state, jax.eval_shape(lambda: KEY), batch).compile().as_text()
    finally:
        devices.use(1)
    large = [found for found in sent(text) if found[1] > EMBEDDINGS]
    assert {name for name, _ in large} == {"all-to-all"}


def test_keys_in_random_order_are_gathered():
    """What "spread" avoids; and the images of this step would be found."""
    text = compiled(made("moco", shuffle=True), halves())
    assert max(size for _, size in sent(text)) == IMAGES


def test_the_step_of_a_resident_data_set_sends_no_image_either():
    """Images are taken and augmented where they are needed."""
    method, view = made("simclr"), augment.View(blur=0.5)
    images = jax.ShapeDtypeStruct((50, 32, 32, 3), jnp.uint8)
    batch = {
        "index": laid_out(jax.ShapeDtypeStruct((BATCH,), jnp.int32), "data"),
        "dataset": laid_out(
            {"image": images, "label": jax.ShapeDtypeStruct((50,), jnp.int32)}
        ),
    }
    loss_fn = pretrain.make_loss(method, (view, view), SIZE, 0)
    assert_embeddings_only(compiled(method, batch, loss_fn, prepare=data.take))


def test_joined_views_would_be_found():
    (pair, _) = halves()
    joined = jax.jit(jnp.concatenate).lower(pair).compile().as_text()
    assert sum(size for _, size in sent(joined)) > EMBEDDINGS
