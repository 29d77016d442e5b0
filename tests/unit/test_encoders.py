"""ResNet against published counts, torchvision's weights, and its own promises."""

import functools
import importlib.util
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import assert_lowers_for_cuda

from simclr_jax.encoders import DEPTHS, STEMS, BasicBlock, ResNet, SelectiveKernel

SMALL = {"depth": 18, "width": 0.25, "stem": "cifar"}


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def random_images(size=8, batch=4):
    rng = np.random.default_rng(0)
    return rng.random([batch, size, size, 3], np.float32)


def init(encoder, images):
    return jax.jit(functools.partial(encoder.init, train=False))(
        jax.random.key(0), images
    )


def encode(encoder, variables, images):
    """h in inference mode, in one compilation."""
    return jax.jit(functools.partial(encoder.apply, train=False))(variables, images)


def shapes(encoder, size=32):
    """(h, variables), traced only."""
    return jax.eval_shape(
        functools.partial(encoder.init_with_output, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct([2, size, size, 3], jnp.float32),
    )


@functools.cache
def counts(**fields):
    """(trainable parameters, running statistics)."""
    _, variables = shapes(ResNet(**fields))
    return tuple(
        sum(math.prod(x.shape) for x in jax.tree.leaves(variables[collection]))
        for collection in ("params", "batch_stats")
    )


# --- parameter counts ---------------------------------------------------------------

# num_params in the documentation of torchvision's ResNet*_Weights, less the classifier:
# F x 1000 + 1000.
TORCHVISION = {
    10: 5_418_792 - 513_000,  # ResNet-18 less one block a stage
    18: 11_689_512 - 513_000,
    34: 21_797_672 - 513_000,
    50: 25_557_032 - 2_049_000,
    101: 44_549_160 - 2_049_000,
    152: 60_192_808 - 2_049_000,
}


@pytest.mark.parametrize("depth, expected", TORCHVISION.items())
def test_parameter_count_is_torchvisions_without_fc(depth, expected):
    assert counts(depth=depth)[0] == expected


def test_cifar_stem_is_smaller_by_its_kernel():
    assert counts(depth=50, stem="cifar")[0] == 23_500_352
    assert 23_508_032 - 23_500_352 == (7 * 7 - 3 * 3) * 3 * 64


# depth, width, sk, millions: google-research/simclr README.md, "Param (M)". All 13 rows
# are the trunk (no head, no classifier) with the BatchNorm statistics counted in:
# trainable parameters alone make 232.25 and 353.40 of the rows 233 and 354.
SIMCLR_V2 = [
    (50, 1, False, 24),
    (50, 1, True, 35),
    (50, 2, False, 94),
    (50, 2, True, 140),
    (101, 1, False, 43),
    (101, 1, True, 65),
    (101, 2, False, 170),
    (101, 2, True, 257),
    (152, 1, False, 58),
    (152, 1, True, 89),
    (152, 2, False, 233),
    (152, 2, True, 354),
    (152, 3, True, 795),
]


@pytest.mark.parametrize("depth, width, sk, millions", SIMCLR_V2)
def test_published_counts_of_simclr_v2(depth, width, sk, millions):
    params, statistics = counts(depth=depth, width=width, sk=sk)
    assert round((params + statistics) / 1e6) == millions
    assert abs(params / 1e6 - millions) < 0.8


# SimCLR (arXiv 2002.05709) and BYOL (arXiv 2006.07733): trainable parameters alone.
@pytest.mark.parametrize("depth, width, millions", [(50, 4, 375), (200, 2, 250)])
def test_published_counts_of_simclr_v1_and_byol(depth, width, millions):
    assert round(counts(depth=depth, width=width)[0] / 1e6) == millions


# --- shapes, names, types -----------------------------------------------------------


@pytest.mark.parametrize(
    "fields, size, features",
    [
        ({"depth": 18, "width": 0.25}, 8, 128),
        ({"depth": 18, "width": 0.25, "sk": True}, 33, 128),
        ({"depth": 34, "width": 2, "stem": "cifar"}, 8, 1024),
        ({"depth": 50, "width": 0.25, "stem": "cifar", "sk": True}, 9, 512),
        ({"depth": 50, "width": 3, "sk": True}, 64, 6144),
        ({"depth": 200, "width": 4}, 224, 8192),
    ],
)
def test_shape_of_h(fields, size, features):
    encoder = ResNet(**fields)
    h, _ = shapes(encoder, size)
    assert h.shape == (2, features)
    assert encoder.features == features
    assert h.dtype == jnp.float32


def test_projection_shortcuts_only_where_the_shape_changes():
    for depth, first in [(18, False), (50, True)]:
        params = shapes(ResNet(depth=depth))[1]["params"]
        projected = {name for name, block in params.items() if "shortcut_conv" in block}
        expected = {"stage2_block1", "stage3_block1", "stage4_block1"}
        assert projected == expected | ({"stage1_block1"} if first else set())


def test_names_are_readable_and_convolutions_have_no_bias():
    params = shapes(ResNet(depth=50))[1]["params"]
    assert len(params) == 2 + sum(DEPTHS[50])
    assert set(params["stem_conv"]) == {"kernel"}
    assert {name: set(layer) for name, layer in params["stage4_block3"].items()} == {
        "conv1": {"kernel"},
        "bn1": {"scale", "bias"},
        "conv2": {"kernel"},
        "bn2": {"scale", "bias"},
        "conv3": {"kernel"},
        "bn3": {"scale", "bias"},
    }


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"depth": 20}, r"depth 20 .*18, 34, 50, 101, 152, 200"),
        ({"stem": "mnist"}, r"stem 'mnist' .*imagenet.*cifar"),
        ({"width": 0.3}, r"width 0\.3 .*19\.2"),
        ({"width": 0}, r"width 0 "),
        ({"width": -1}, r"width -1 "),
        ({"width": float("nan")}, r"width nan "),
        ({"width": 1 / 64, "sk": True}, r"width 0\.015625 gives 1 channel .*sk"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**fields)


def test_wrong_image_shape_is_named():
    with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \(8, 8, 3\)"):
        ResNet(**SMALL).init(jax.random.key(0), jnp.zeros([8, 8, 3]), train=False)
    with pytest.raises(ValueError, match=r"got \(0, 8, 8, 3\); B, H, W, C >= 1"):
        ResNet(**SMALL).init(jax.random.key(0), jnp.zeros([0, 8, 8, 3]), train=True)
    assert STEMS == ("imagenet", "cifar")


@pytest.mark.parametrize("stem, width", [("cifar", 1 / 64), ("imagenet", 1 / 32)])
def test_the_narrowest_selective_kernels(stem, width):
    encoder = ResNet(depth=10, sk=True, stem=stem, width=width)
    init = functools.partial(encoder.init_with_output, train=False)
    images = jnp.ones([2, 32, 32, 3])
    h, variables = jax.eval_shape(init, jax.random.key(0), images)
    assert h.shape == (2, 512 * width)
    assert all(x.size for x in jax.tree.leaves(variables))


# --- BatchNorm ----------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """(encoder, variables, images) of a ResNet-18 cut to three blocks."""
    monkeypatch.setitem(DEPTHS, 18, (2, 1))
    encoder, images = ResNet(**SMALL), random_images()
    return encoder, init(encoder, images), images


def test_statistics_move_in_training_only(small):
    encoder, variables, images = small
    apply = jax.jit(
        functools.partial(encoder.apply, mutable=["batch_stats"]), static_argnums=2
    )
    _, kept = apply(variables, images, False)
    jax.tree.map(
        np.testing.assert_array_equal, kept, {"batch_stats": variables["batch_stats"]}
    )

    _, moved = apply(variables, images, True)
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        moved["batch_stats"],
        variables["batch_stats"],
    )
    assert all(jax.tree.leaves(changed))

    # Decay 0.9 from mean 0 and variance 1, for a convolution made here by hand.
    x = np.asarray(images, np.float64)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    kernel = np.asarray(variables["params"]["stem_conv"]["kernel"], np.float64)
    out = np.einsum("bhwcij,ijcf->bhwf", windows, kernel)
    statistics = moved["batch_stats"]["stem_bn"]
    np.testing.assert_allclose(
        statistics["mean"], 0.1 * out.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics["var"], 0.9 + 0.1 * out.var((0, 1, 2)), rtol=1e-5
    )


def test_bfloat16_keeps_params_statistics_and_h_in_float32(small):
    _, variables, images = small
    encoder = ResNet(**SMALL, dtype=jnp.bfloat16)
    (h, moved) = jax.eval_shape(
        functools.partial(encoder.apply, train=True, mutable=["batch_stats"]),
        variables,
        images,
    )
    initial = shapes(encoder, 8)[1]
    for x in jax.tree.leaves((h, moved, initial)):
        assert x.dtype == jnp.float32

    h_16 = encode(encoder, variables, images)
    h_32 = encode(ResNet(**SMALL), variables, images)
    assert (h_16 != h_32).any(), "bfloat16 was not used"
    np.testing.assert_allclose(h_16, h_32, rtol=0.1, atol=0.05)


def test_kernels_start_with_he_variance_over_fan_out(small):
    params = small[1]["params"]
    for layer, fan_out in [("conv1", 9 * 32), ("shortcut_conv", 32)]:
        kernel = params["stage2_block1"][layer]["kernel"]  # 16 channels to 32
        np.testing.assert_allclose(kernel.std(), (2 / fan_out) ** 0.5, rtol=0.15)


def test_the_pytorch_scheme_starts_as_torch_conv2d_and_batchnorm():
    """nn.Conv2d: U(-b, b) with b = 1 / sqrt(fan_in); nn.BatchNorm2d: gamma 1."""
    encoder = ResNet(**SMALL, init_scheme="pytorch")
    block = init(encoder, random_images())["params"]["stage2_block1"]
    for layer, fan_in in [("conv1", 9 * 16), ("conv2", 9 * 32), ("shortcut_conv", 16)]:
        kernel = block[layer]["kernel"]
        assert abs(kernel).max() <= fan_in**-0.5
        np.testing.assert_allclose(kernel.std(), (3 * fan_in) ** -0.5, rtol=0.1)
    assert (block["bn2"]["scale"] == 1).all()
    with pytest.raises(ValueError, match=r"init_scheme 'torch'.*simclr"):
        ResNet(**SMALL, init_scheme="torch")


def test_the_torchvision_scheme_is_he_over_fan_out_and_gamma_1():
    encoder = ResNet(**SMALL, init_scheme="torchvision")
    block = init(encoder, random_images())["params"]["stage2_block1"]
    for layer, fan_out in [("conv1", 9 * 32), ("shortcut_conv", 32)]:
        kernel = block[layer]["kernel"]
        np.testing.assert_allclose(kernel.std(), (2 / fan_out) ** 0.5, rtol=0.15)
    assert (block["bn2"]["scale"] == 1).all()


@pytest.mark.parametrize("depth, last", [(18, 2), (50, 3)])
def test_a_block_starts_as_its_shortcut(depth, last, monkeypatch):
    monkeypatch.setitem(DEPTHS, depth, (2, 1))
    encoder, images = ResNet(**{**SMALL, "depth": depth}), random_images()
    variables = init(encoder, images)
    convolutions = [f"conv{i}" for i in range(1, last + 1)]
    h = encode(encoder, variables, images)
    assert h.std() > 0.01

    def edit(collection_edit):
        return {
            **variables,
            "params": jax.tree_util.tree_map_with_path(
                lambda path, x: collection_edit([k.key for k in path], x),
                variables["params"],
            ),
        }

    # The residual branches have no say ...
    other_branches = edit(lambda path, x: x[::-1] * 3 if path[1] in convolutions else x)
    np.testing.assert_array_equal(encode(encoder, other_branches, images), h)
    # ... until the last gamma of each leaves 0.
    opened = edit(lambda path, x: x + 1 if path[1:] == [f"bn{last}", "scale"] else x)
    assert abs(encode(encoder, opened, images) - h).max() > 0.01


# --- remat --------------------------------------------------------------------------


def test_remat_changes_neither_names_nor_values(monkeypatch):
    monkeypatch.setitem(DEPTHS, 18, (1, 1))
    plain = ResNet(**SMALL, sk=True)
    remat = plain.clone(remat=True)
    images = random_images(size=4, batch=2)
    assert shapes(plain)[1] == shapes(remat)[1]
    variables = init(plain, images)
    # gammas of 0 would hide what happens inside the blocks
    variables["params"] = jax.tree.map(lambda x: x + 0.01, variables["params"])

    def gradient(encoder):
        def loss(params):
            h, moved = encoder.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return (h**2).mean(), moved

        return jax.jit(jax.grad(loss, has_aux=True))

    step = gradient(remat)
    assert "remat" in str(jax.make_jaxpr(step)(variables["params"]))
    expected, actual = (gradient(e)(variables["params"]) for e in (plain, remat))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        expected,
        actual,
    )


# --- selective kernels and ResNet-D -------------------------------------------------


def test_selective_kernel_is_a_softmax_over_two_convolutions():
    conv = functools.partial(nn.Conv, use_bias=False)
    norm = functools.partial(nn.BatchNorm, use_running_average=True, epsilon=0.0)
    layer = SelectiveKernel(filters=4, stride=2, conv=conv, norm=norm)
    x = random_images(size=6, batch=2) - 0.5
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    params = jax.tree.map(np.asarray, variables["params"])
    assert params["mix_conv1"]["kernel"].shape == (1, 1, 4, 32)  # min_dim

    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    both = np.einsum(
        "bhwcij,ijcf->bhwf", windows[:, ::2, ::2], params["conv"]["kernel"]
    )
    both = np.maximum(both, 0).reshape([2, 3, 3, 2, 4])  # last two: which, channel
    pooled = both.sum(3).mean((1, 2))
    hidden = np.maximum(pooled @ params["mix_conv1"]["kernel"][0, 0], 0)
    logits = (hidden @ params["mix_conv2"]["kernel"][0, 0]).reshape([2, 2, 4])
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.einsum("bhwkf,bkf->bhwf", both, weights)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_sk_shortcut_averages_first(stride):
    """An odd size, so that the last window hangs over the edge: as in SimCLR's code,
    stride 2 averages zeros in (padded before pooling), stride 1 does not (SAME)."""
    block = BasicBlock(
        filters=4,
        stride=stride,
        sk=True,
        conv=functools.partial(nn.Conv, use_bias=False),
        norm=functools.partial(nn.BatchNorm, use_running_average=True, epsilon=0.0),
        last_gamma=nn.initializers.zeros,
    )
    x = random_images(size=5, batch=1) - 0.5
    variables = jax.jit(block.init)(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["shortcut_conv"]["kernel"])[0, 0]

    side = 5 if stride == 1 else 3
    pooled = np.zeros([1, side, side, 3])
    for i in range(side):
        for j in range(side):
            window = np.asarray(x)[:, i * stride :, j * stride :][:, :2, :2]
            n = window.shape[1] * window.shape[2] if stride == 1 else 4
            pooled[:, i, j] = window.sum((1, 2)) / n
    # gamma 0 in the last BatchNorm: the block is its shortcut
    np.testing.assert_allclose(
        jax.jit(block.apply)(variables, x), np.maximum(pooled @ kernel, 0), atol=1e-5
    )


# --- other machines, other frameworks -----------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("fields", [{}, {"sk": True, "remat": True, "depth": 50}])
def test_the_gradient_lowers_for_cuda(dtype, fields, monkeypatch):
    for depth in (18, 50):
        monkeypatch.setitem(DEPTHS, depth, (2, 1))
    encoder = ResNet(**{"depth": 18, "width": 0.25, "dtype": dtype, **fields})
    _, variables = shapes(encoder, 16)

    def step(variables, images):
        def loss(params):
            h, moved = encoder.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return h.mean(), moved

        return jax.grad(loss, has_aux=True)(variables["params"])

    images = jax.ShapeDtypeStruct([4, 16, 16, 3], jnp.float32)
    assert_lowers_for_cuda(jax.jit(step), variables, images)
    used = str(jax.make_jaxpr(step)(variables, images))
    assert ("bf16" in used) == (dtype == jnp.bfloat16)


@pytest.mark.parametrize("fields", [{}, {"sk": True}])
def test_the_matmul_precision_of_jax_reaches_every_convolution(fields, monkeypatch):
    """On a GPU "highest" is IEEE float32, the default TF32; README says so."""
    monkeypatch.setitem(DEPTHS, 18, (2, 1))
    encoder = ResNet(**SMALL | fields)
    _, variables = shapes(encoder, 16)

    def loss(variables, images):
        apply = functools.partial(encoder.apply, mutable=["batch_stats"], train=True)
        return apply(variables, images)[0].mean()

    images = jax.ShapeDtypeStruct([4, 16, 16, 3], jnp.float32)
    for precision in ("default", "highest"):
        with jax.default_matmul_precision(precision):
            text = jax.jit(jax.grad(loss)).lower(variables, images).as_text()
        products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", text)
        assert len(products) > 10
        highest = ["HIGHEST" in product for product in products]
        assert highest == [precision == "highest"] * len(products)


# The first features that torchvision 0.28.0 (torch 2.13.0, CPU) gives for what `fill`
# writes; made by test_features_equal_torchvisions, which fails where they differ.
TORCHVISION_FEATURES = {
    18: [0.26747, 0.0, 0.59262, 0.0627, 0.11119, 0.04273, 0.08473, 0.0],
    50: [0.03051, 1.06342, 0.45795, 0.31475, 0.0, 0.17686, 0.0, 0.49723],
}


def fill(variables, seed):
    """Writes random numbers into arrays, in the order of their names.

    gamma, beta and the statistics too, or swapped or ignored ones would pass; gamma
    stays small enough for the features not to grow with the depth.
    """
    rng = np.random.default_rng(seed)
    for path, x in jax.tree.leaves_with_path(variables):
        bound = (6 / np.prod([*x.shape[:2], x.shape[-1]])) ** 0.5  # He, over fan-out
        low, high = {
            "kernel": (-bound, bound),
            "scale": (0.3, 0.9),
            "bias": (-0.3, 0.3),
            "mean": (-0.3, 0.3),
            "var": (0.5, 1.5),
        }[path[-1].key]
        x[...] = low + (high - low) * rng.random(x.shape)
    return variables


@pytest.mark.parametrize("depth", [18, 50])
def test_features_equal_torchvisions_recorded(depth):
    encoder = ResNet(depth=depth)
    empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes(encoder)[1])
    h = encode(encoder, fill(empty, seed=depth), random_images(32, batch=1))
    expected = TORCHVISION_FEATURES[depth]
    np.testing.assert_allclose(h[0, : len(expected)], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("depth", [18, 50])
def test_features_equal_torchvisions(depth):
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; CPU builds are enough")
    import torch
    import torch_resnet

    model = torch_resnet.resnet(depth)
    variables = fill(torch_resnet.to_flax(model.state_dict()), seed=depth)
    encoder = ResNet(depth=depth)
    ours = shapes(encoder)[1]
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, ours)

    def reference(images):
        with torch.no_grad():
            return model(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()

    images = random_images(64, batch=2)
    expected = reference(images)
    difference = np.abs(encode(encoder, variables, images) - expected).max()
    print(f"depth {depth}: max difference {difference:.1e}, std {expected.std():.2f}")
    assert expected.std() > 0.1
    assert difference < 1e-4

    recorded = reference(random_images(32, batch=1))[
        0, : len(TORCHVISION_FEATURES[depth])
    ]
    np.testing.assert_allclose(
        recorded, TORCHVISION_FEATURES[depth], atol=1e-5, rtol=0, err_msg=f"{recorded}"
    )
