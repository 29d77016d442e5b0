"""Where arrays lie on one device and on two; what is split and what is whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from simclr_jax import devices, evaluation
from simclr_jax.evaluation import neighbours


@pytest.fixture
def two():
    devices.use(2)
    yield
    devices.use(1)


def test_one_device_places_nothing():
    devices.use(1)
    batch = {"index": np.arange(4), "dataset": {"image": jnp.zeros(3)}}
    assert devices.place(batch) is batch
    assert devices.rows() is devices.whole() is None
    assert devices.count() == 1
    assert devices.divides(3)
    assert devices.round_up(7) == 7
    placed = devices.put(np.arange(3), devices.whole())
    assert not placed.committed  # it may meet arrays of any device


def test_all_devices_are_the_default(two):
    devices.use()
    assert devices.count() == devices.available() == 2
    with pytest.raises(ValueError, match="3 devices asked for, 2 found"):
        devices.use(3)


def test_each_device_holds_its_rows(two):
    x = np.arange(12.0).reshape(4, 3)
    placed = devices.put(x, devices.rows())
    for shard, device in zip(placed.addressable_shards, jax.devices(), strict=True):
        assert shard.device == device
        np.testing.assert_array_equal(shard.data, x[2 * device.id : 2 * device.id + 2])
    for shard in devices.put(x, devices.whole()).addressable_shards:
        np.testing.assert_array_equal(shard.data, x)


def test_a_batch_is_split_by_rows_and_the_data_set_stays(two):
    dataset = {"image": devices.put(np.zeros([5, 2]), devices.whole())}
    batch = {
        "unlabelled": {"index": np.arange(6), "dataset": dataset},
        "labelled": {"image": np.zeros([3, 2])},  # does not divide
        "teacher": (jnp.ones(4),),
    }
    placed = devices.place(batch)
    assert placed["unlabelled"]["index"].sharding.spec == PartitionSpec("data")
    assert placed["unlabelled"]["dataset"] is dataset
    assert placed["labelled"]["image"].sharding.is_fully_replicated
    assert placed["teacher"] is batch["teacher"]
    stacked = devices.place({"index": np.zeros([3, 4], np.int32)}, axis=1)
    assert stacked["index"].sharding.spec == PartitionSpec(None, "data")
    assert stacked["index"].addressable_shards[0].data.shape == (3, 2)


def test_sizes_that_divide(two):
    assert devices.divides(6)
    assert not devices.divides(7)
    assert [devices.round_up(n) for n in (1, 2, 7)] == [2, 2, 8]


@pytest.mark.parametrize(
    "shape, held",
    [
        ((512, 1024), (512, 512)),  # the largest axis
        ((1024, 512), (512, 512)),
        ((3, 3, 512, 512), (3, 3, 512, 256)),  # the last of equal ones
        ((1025, 512), (1025, 256)),  # the largest that two divide
        ((1025, 511), (1025, 511)),  # none
        ((512, 512), (512, 512)),  # 1 MiB, not more
    ],
)
def test_large_arrays_are_spread(two, shape, held):
    abstract = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
    assert devices.spread(abstract, fsdp=True)["w"].shard_shape(shape) == held
    assert devices.spread(abstract, fsdp=False) == {"w": devices.whole()}
    halves = {"w": jax.ShapeDtypeStruct((512, 1024), jnp.float16)}  # 1 MiB
    assert devices.spread(halves, fsdp=True) == {"w": devices.whole()}


def test_one_device_spreads_nothing():
    devices.use(1)
    abstract = {"w": jax.ShapeDtypeStruct((512, 1024), jnp.float32)}
    assert devices.spread(abstract, fsdp=True) is None


def test_what_is_spread_is_joined_on_the_host(two):
    x = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    tree = {"w": devices.put(x, devices.rows()), "count": 3}
    found = devices.fetch(tree)
    assert type(found["w"]) is np.ndarray
    np.testing.assert_array_equal(found["w"], x)
    assert found["count"] == 3


def test_shapes_say_where_their_arrays_belong(two):
    abstract = {"w": jax.ShapeDtypeStruct((2,), jnp.int8)}
    found = devices.laid_out(abstract, devices.whole())["w"]
    assert (found.shape, found.dtype) == ((2,), jnp.int8)
    assert found.sharding == devices.whole()
    tree = {"w": devices.rows()}
    assert devices.laid_out(abstract, tree)["w"].sharding == devices.rows()
    assert devices.laid_out(abstract, None)["w"].sharding is None


@pytest.mark.parametrize("queries, block_size", [(7, 4), (7, 3), (1, 1024), (30, 8)])
def test_neighbours_vote_alike_on_two_devices(queries, block_size):
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(queries, 5)), rng.normal(size=(40, 5))
    labels = rng.integers(-1, 3, 40)
    options = {"k": 5, "num_classes": 3, "block_size": block_size}
    found = []
    for number in (1, 2):
        devices.use(number)
        found.append(evaluation.knn(*arrays, labels, **options))
    devices.use(1)
    assert len(found[1].devices()) == 2
    np.testing.assert_array_equal(*found)


def test_similarities_stay_on_their_device(two):
    """By itself, XLA would gather them all on every device for `top_k`."""
    whole = devices.put((np.ones((40, 5)), np.zeros(40, int)), devices.whole())
    queries = np.ones((64, 5)), np.full(64, -1)
    queries = devices.put(queries, devices.rows())
    options = {"k": 3, "num_classes": 2, "block_size": 32, "mesh": devices.mesh()}
    lowered = neighbours._classify.lower(queries, *whole, 0.1, **options)
    text = lowered.compile().as_text()
    assert "f32[32,40]" in text  # the block of one device
    assert "all-gather" not in text
    assert "all-reduce" not in text
