"""What devices send: closed forms in parameters, channels and embeddings."""

from types import SimpleNamespace

import jax
import pytest

from benchmarks import communication
from benchmarks.collectives import Array
from simclr_jax import devices

RECORDS = communication.read()
# ResNet-50's stages: bottleneck width, blocks, channels that come in.
STAGES = ((64, 3, 64), (128, 4, 256), (256, 6, 512), (512, 3, 1024))
CLASSIFIER = 4 * (2048 + 1) * 1000  # the online probe's gradient


def convolutions_and_channels():
    """Weights of ResNet-50's convolutions, and channels of its BatchNorm layers."""
    weights, channels = 7 * 7 * 3 * 64, 64
    for width, blocks, inputs in STAGES:
        out = 4 * width
        weights += inputs * out + (inputs + (blocks - 1) * out) * width
        weights += blocks * (9 * width * width + width * out)
        channels += out + blocks * (2 * width + out)
    return weights, channels


CONVOLUTIONS, CHANNELS = convolutions_and_channels()
# Their heads: weights, and channels of BatchNorm layers.
HEADS = {
    "simclr": (2048 * 2048 + 2048 * 128, 2048 + 128),
    "byol": (2048 * 4096 + 4096 * 256 + 256 * 4096 + 4096 * 256, 4096 + 4096),
    "moco": (2048 * 2048 + 2048 * 128, 0),
}


def size(record, carries, **fields):
    fields["carries"] = carries
    return sum(
        row["bytes"]
        for row in record["sent"]
        if all(row[name] == value for name, value in fields.items())
    )


def points(*cases):
    return [key for key in RECORDS if key[0] in cases]


def test_the_closed_form_is_resnet_50():
    """As torchvision counts it, without the classifier of 1000 classes."""
    assert CONVOLUTIONS + 2 * CHANNELS == 25_557_032 - 2049 * 1000


def test_every_method_is_counted_on_8_64_and_512_devices():
    for case in ("simclr", "simclr_memory", "byol", "moco", "moco_random"):
        for number in (8, 64, 512):
            assert (case, number, 4096) in RECORDS


@pytest.mark.parametrize("number", [8, 64, 512])
def test_fsdp_gathers_weights_and_sums_the_same_gradients(number):
    """At most two copies of each weight: for the forward and the backward pass."""
    spread, whole = (RECORDS[case, number, 4096] for case in ("simclr_fsdp", "simclr"))
    assert size(spread, "gradients") == size(whole, "gradients")
    assert 0 < size(spread, "weights") <= 2 * size(whole, "gradients")
    assert size(whole, "weights") == size(spread, "activations") == 0


@pytest.mark.parametrize("key", points("simclr", "simclr_memory"))
def test_simclr_sends_each_gradient_once(key):
    """Kernels of the encoder in bfloat16, those of the heads in float32."""
    record = RECORDS[key]
    assert size(record, "gradients", dtype="bf16") == 2 * CONVOLUTIONS
    heads = 4 * HEADS["simclr"][0] + CLASSIFIER
    assert size(record, "gradients", dtype="f32") == heads
    assert {
        row["among"] for row in record["sent"] if row["carries"] == "gradients"
    } == {key[1]}


@pytest.mark.parametrize("key", points("byol"))
def test_byol_sends_each_gradient_once_for_each_view(key):
    record = RECORDS[key]
    assert size(record, "gradients", dtype="bf16") == 2 * 2 * CONVOLUTIONS
    heads = 2 * 4 * HEADS["byol"][0] + CLASSIFIER
    assert size(record, "gradients", dtype="f32") == heads


@pytest.mark.parametrize("key", points("moco", "moco_8_groups", "moco_random"))
def test_moco_sends_each_gradient_once(key):
    """The heads' perhaps twice: within a BatchNorm group, then among the groups."""
    record = RECORDS[key]
    assert size(record, "gradients", dtype="bf16") == 2 * CONVOLUTIONS
    rest = size(record, "gradients", dtype="f32") - CLASSIFIER
    once = 4 * (HEADS["moco"][0] + 2048 + 128)
    assert once <= rest <= 2 * once


@pytest.mark.parametrize("key", points("simclr_micro"))
def test_each_micro_batch_sends_all_gradients(key):
    count = key[2] // 256
    once = 2 * CONVOLUTIONS + 4 * HEADS["simclr"][0]
    assert size(RECORDS[key], "gradients") == count * once + CLASSIFIER


@pytest.mark.parametrize("key", points("simclr"))
def test_batch_norm_sends_two_sums_forward_and_three_backward(key):
    """For each channel; two backward for z's, whose input has no ReLU."""
    every, last = CHANNELS + 2048, 128
    assert size(RECORDS[key], "batch_norm") == 4 * (5 * every + 4 * last)


@pytest.mark.parametrize("key", points("simclr", "byol"))
def test_embeddings_are_all_that_depends_on_the_batch(key):
    """At most five times z of both views, and no image and no feature map."""
    case, _, batch = key
    record, width = RECORDS[key], {"simclr": 128, "byol": 256}[case]
    assert {row["carries"] for row in record["sent"]} == {
        *("gradients", "batch_norm", "embeddings", "other")
    }
    assert size(record, "embeddings") <= 5 * 2 * batch * width * 4
    assert size(record, "other") <= 8 * width + 64


@pytest.mark.parametrize("case", ["simclr", "byol", "moco"])
@pytest.mark.parametrize("number", [64, 512])
def test_between_two_batches_only_embeddings_change(case, number):
    """And MoCo's images."""
    one, two = (RECORDS[case, number, batch] for batch in (4096, 8192))
    for name in ("gradients", "batch_norm"):
        assert size(one, name) == size(two, name)
    assert size(two, "images") == 2 * size(one, "images")


@pytest.mark.parametrize("key", points("moco", "moco_8_groups", "moco_random"))
def test_moco_gathers_a_batch_of_keys(key):
    """Each device has the whole queue."""
    found = size(RECORDS[key], "embeddings", collective="all-gather")
    assert found == key[2] * 128 * 4


@pytest.mark.parametrize("number", [64, 512])
def test_batches_in_between_lie_on_a_line(number):
    """As the prediction assumes of SimCLR's blocks."""
    known = [batch for _, n, batch in points("simclr") if n == number and batch > 4096]
    records = [RECORDS["simclr", number, batch] for batch in sorted(known)]
    for name in ("messages", "embeddings"):
        values = [x.get(name) or size(x, name) for x in records]
        for batch, value in zip(sorted(known), values, strict=True):
            share = (batch - 8192) / (65_536 - 8192)
            line = values[0] + share * (values[-1] - values[0])
            assert value == pytest.approx(line, rel=0.02)


VIEW = 4096 * 224 * 224 * 3 * 4  # bytes of a batch's keys


@pytest.mark.parametrize("number, exchanges", [(8, 1), (64, 1), (512, 2)])
def test_moco_moves_a_device_s_own_images(number, exchanges):
    """If BatchNorm has a group for each device. Where its images do not divide by the
    devices, 8 by 512, they move twice."""
    record = RECORDS["moco", number, 4096]
    assert size(record, "images") == exchanges * VIEW / number
    assert not size(record, "images", collective="all-gather")


def test_a_group_on_several_devices_gathers_its_images():
    """MoCo's recipe has 8 groups: what more devices than that must know of it."""
    record = RECORDS["moco_8_groups", 64, 4096]
    assert size(record, "images", collective="all-gather") >= VIEW / 8


@pytest.mark.parametrize("number", [8, 64, 512])
def test_a_random_order_gathers_the_batch(number):
    assert size(RECORDS["moco_random", number, 4096], "images") >= VIEW


@pytest.mark.parametrize(
    "kind, shape, operation, expected",
    [
        ("all-reduce", (1, 1, 64, 256), "jvp(ResNet)/conv1/conv_general", "gradients"),
        ("all-reduce", (256, 64), "transpose(jvp(ResNet))/conv1/dot", "gradients"),
        ("all-gather", (64, 256), "jvp(ResNet)/conv1/conv_general", "weights"),
        ("all-gather", (4, 64, 256), "jvp(ResNet)/conv1/conv", "activations"),
        ("all-reduce", (4, 56, 56, 64), "jvp(ResNet)/conv1/add", "activations"),
        ("all-reduce", (64,), "jvp(ResNet)/stage1_block1/bn1/reduce_sum", "batch_norm"),
        ("all-reduce", (1, 64), "jvp(ResNet)/stem_bn/reduce_sum", "batch_norm"),
        ("all-reduce", (64,), "jit(step)/jvp()/reduce_sum", "batch_norm"),
        ("all-gather", (512, 224, 224, 3), "jvp()/reshape", "images"),
        ("all-gather", (512, 224, 256), "jvp(btw,bswc->bstc)/dot_general", "images"),
        ("all-gather", (8192, 128), "jvp()/concatenate", "embeddings"),
        ("collective-permute", (256, 256), "jvp()/slice", "embeddings"),  # BYOL's z
        ("all-reduce", (1024,), "jvp()/while/body/reduce_max", "embeddings"),
        ("all-reduce", (), "jvp()/reduce_sum", "other"),
    ],
)
def test_what_an_array_carries(kind, shape, operation, expected):
    array = Array(kind, "f32", shape, 4, 8, operation, 1, 1)
    assert communication.carries(array, {(64, 256)}, (256, 224)) == expected


@pytest.mark.slow
def test_a_small_recipe_on_two_devices():
    """The stage's own step, whose gradients follow from its parameters."""
    config = communication.recipe("simclr", 2, 8)
    config.encoder.update(depth=10, width=1 / 16)
    config.augment.size, config.data.stored_size = 16, 24
    config.projector.update(dim=8, hidden=16)
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        record = communication.count("simclr", 2, 8, config)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
        devices.use(1)
    fixed = 4 * (32 * 16 + 16 * 8 + (32 + 1) * 1000)  # h has 512 / 16 numbers
    assert size(record, "gradients", dtype="f32") == fixed
    assert size(record, "images") == size(record, "activations") == 0
    assert size(record, "gradients", dtype="bf16") % 2 == 0
    assert record["messages"] > 10


def test_flags_choose_points_and_a_recipe_forbids_some():
    request = SimpleNamespace(cases="byol", devices="8,64", batches="4096")
    assert list(communication._wanted(request)) == [
        ("byol", 8, 4096),
        ("byol", 64, 4096),
    ]
    assert not communication._fits("simclr_micro", 512, 4096)
    assert communication._fits("simclr_micro", 64, 4096)
    text = communication.table([RECORDS["simclr", 8, 4096]])
    assert "| simclr | 8 | 4,096 | 72.93 |" in text
