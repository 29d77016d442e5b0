"""Weights of PyTorch's form become an encoder that computes what torchvision's does."""

import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from simclr_jax.encoders import ResNet
from simclr_jax.export import safetensors, weights
from simclr_jax.export import torch as export
from simclr_jax.heads import Projector
from simclr_jax.pretrained import Levels

# torchvision's resnet18 and resnet50: blocks of each stage, and their kind.
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
RNG = np.random.default_rng(0)


def conv(x, kernel, stride=1, padding=0):
    """torch.nn.functional.conv2d: x [B, C, H, W], kernel [out, in, k, k]."""
    x = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", windows, kernel)


def norm(x, state, name):
    """torch.nn.BatchNorm2d in eval mode, eps 1e-5."""
    weight, bias, mean, var = (
        state[f"{name}.{leaf}"][:, None, None]
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def max_pool(x):
    """torch.nn.MaxPool2d(3, stride=2, padding=1)."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    return windows[:, :, ::2, ::2].max((-1, -2))


def torchvision_resnet(x, state, depth):
    """torchvision/models/resnet.py in NumPy, without fc: [B, 3, H, W] -> [B, D]."""
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    x = relu(norm(conv(x, state["conv1.weight"], 2, 3), state, "bn1"))
    x = max_pool(x)
    for stage, blocks in enumerate(BLOCKS[depth], 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            convs = [(stride, 1), (1, 1)]  # stride and padding of the 3x3
            if depth == 50:  # v1.5: the 3x3 strides
                convs = [(1, 0), (stride, 1), (1, 0)]
            y = x
            for number, (by, padding) in enumerate(convs, 1):
                kernel = state[f"{name}.conv{number}.weight"]
                y = norm(conv(y, kernel, by, padding), state, f"{name}.bn{number}")
                y = relu(y) if number < len(convs) else y
            if f"{name}.downsample.0.weight" in state:
                x = conv(x, state[f"{name}.downsample.0.weight"], stride)
                x = norm(x, state, f"{name}.downsample.1")
            x = relu(x + y)
    return x.mean((2, 3))


def drawn_state(depth, width=4):
    """A state_dict of torchvision's names, with `width` channels where it has 64."""
    state, rng = {}, np.random.default_rng(depth)

    def add_conv(name, out, into, size):
        scale = np.sqrt(2 / (into * size**2))
        state[f"{name}.weight"] = rng.normal(0, scale, (out, into, size, size))

    def add_norm(name, channels):
        for leaf, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.2, 0.2),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 1.5),
        ):
            state[f"{name}.{leaf}"] = rng.uniform(low, high, channels)
        state[f"{name}.num_batches_tracked"] = np.array(7)

    add_conv("conv1", width, 3, 7)
    add_norm("bn1", width)
    into = width
    for stage, blocks in enumerate(BLOCKS[depth], 1):
        inner = width * 2 ** (stage - 1)
        out = inner * (4 if depth == 50 else 1)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            widths = [(inner, into, 3), (inner, inner, 3)]
            if depth == 50:
                widths = [(inner, into, 1), (inner, inner, 3), (out, inner, 1)]
            for number, shape in enumerate(widths, 1):
                add_conv(f"{name}.conv{number}", *shape)
                add_norm(f"{name}.bn{number}", shape[0])
            if block == 0 and into != out:
                add_conv(f"{name}.downsample.0", out, into, 1)
                add_norm(f"{name}.downsample.1", out)
            into = out
    return {name: np.asarray(x, np.float32) for name, x in state.items()}


def h_of(found, images):
    module = ResNet(**found.about["encoder"])
    variables = {key: tree["encoder"] for key, tree in found.variables.items()}
    return np.asarray(module.apply(variables, jnp.asarray(images), train=False))


@pytest.mark.parametrize("depth", BLOCKS)
def test_features_are_torchvisions(depth):
    """An even and an odd side: paddings and strides would show."""
    state = drawn_state(depth)
    state["fc.weight"] = np.zeros((10, 32), np.float32)
    found = weights.of_torch(state, "here")
    assert found.about["channels"] == 3
    assert found.about["encoder"] == {
        "depth": depth,
        "width": 4 / 64,
        "sk": False,
        "stem": "imagenet",
    }
    images = np.random.default_rng(0).uniform(size=(2, 64, 49, 3)).astype(np.float32)
    wide = {name: np.asarray(x, np.float64) for name, x in state.items()}
    theirs = torchvision_resnet(images.transpose(0, 3, 1, 2), wide, depth)
    ours = h_of(found, images)
    assert theirs.std(0).mean() > 1e-3
    # The features are far larger than they differ from each other, up to 6,000 here:
    # float32 resolves them to 1e-6 of that.
    tolerance = 1e-4 * theirs.std(0).mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=tolerance)


def encoder(depth, **options):
    """Random numbers in an encoder of ours."""
    module = Levels(ResNet(depth=depth, **options), Projector())
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables = jax.tree.map(lambda x: RNG.uniform(size=x.shape, low=0.01), shapes)
    variables = jax.tree.map(np.float32, variables)
    return SimpleNamespace(module=module, variables=variables, config={"size": 32})


@pytest.mark.parametrize(
    "depth, options",
    [(10, {"stem": "cifar"}), (34, {}), (101, {}), (200, {}), (18, {"width": 0.125})],
)
def test_what_we_export_comes_back(tmp_path, depth, options):
    given = encoder(depth, **({"width": 0.0625} | options))
    export.save(tmp_path / "resnet.safetensors", given)
    found = weights.read(tmp_path / "resnet.safetensors")
    assert not found.ours
    assert found.about["encoder"]["depth"] == depth
    assert found.about["encoder"]["stem"] == options.get("stem", "imagenet")
    assert found.about["encoder"]["width"] == options.get("width", 0.0625)
    for key, tree in found.variables.items():
        jax.tree.map(
            np.testing.assert_array_equal,
            tree["encoder"],
            given.variables[key]["encoder"],
        )


def test_our_own_file_keeps_its_projector(tmp_path):
    given = encoder(10, width=0.0625)
    about = {"encoder": {"depth": 10}, "projector": {}, "channels": 3}
    safetensors.save(tmp_path / "encoder.safetensors", about, given.variables)
    found = weights.read(tmp_path / "encoder.safetensors")
    assert found.ours
    assert found.about["encoder"] == {"depth": 10}
    assert set(found.variables["params"]) == {"encoder", "projector"}


@pytest.mark.parametrize(
    "prefix, beside",
    [
        ("module.encoder_q.", ["module.encoder_k."]),  # MoCo
        ("backbone.", ["backbone_momentum."]),
        ("module.", []),
        ("", ["ema."]),
    ],
)
def test_the_trained_network_among_several(prefix, beside):
    state = drawn_state(18)
    named = {f"{prefix}{name}": x for name, x in state.items()}
    for other in beside:
        named |= {f"{other}{name}": x + 1 for name, x in state.items()}
    named |= {"module.queue": np.zeros((128, 8)), f"{prefix}fc.0.weight": np.ones(3)}
    found = weights.of_torch(named, "here")
    kernel = found.variables["params"]["encoder"]["stem_conv"]["kernel"]
    np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0))


def changed(**changes):
    state = drawn_state(18)
    for name, array in changes.items():
        name = name.replace("__", ".")
        if array is None:
            del state[name]
        else:
            state[name] = array
    return state


@pytest.mark.parametrize(
    "named, message",
    [
        ({"linear.weight": np.ones(3)}, "here has no layers named as in torchvision's"),
        (
            {f"{k}{x}": y for k in ("a.", "b.") for x, y in drawn_state(18).items()},
            r"here has several networks: a\.\*, b\.\*; keep one",
        ),
        (
            changed(layer1__0__se__fc1__weight=np.ones((2, 2, 1, 1))),
            r"here has layer1\.0\.se\.fc1\.weight, which torchvision's ResNet has not",
        ),
        (
            changed(bn1__bias=np.array([np.nan] * 4)),
            r"here: bn1\.bias is not finite",
        ),
        (
            {k: x for k, x in drawn_state(18).items() if "layer3.1" not in k},
            r"here has \(2, 2, 1, 2\) basic blocks, which is no ResNet of ours",
        ),
    ],
)
def test_what_is_no_resnet_is_refused(named, message):
    with pytest.raises(ValueError, match=message):
        weights.of_torch(named, "here")


def test_normalisation_goes_into_the_first_layer():
    """In the inside of images; at the border the zeros have another meaning."""
    state = drawn_state(18)
    mean, std = np.array(weights.MEAN), np.array(weights.STD)
    found = weights.of_torch(state, "here")
    folded = weights.without_normalisation(found.variables)
    images = np.random.default_rng(0).uniform(size=(2, 20, 20, 3))
    normalised = ((images - mean) / std).transpose(0, 3, 1, 2)
    theirs = norm(conv(normalised, state["conv1.weight"]), state, "bn1")
    kernel = folded["params"]["encoder"]["stem_conv"]["kernel"].transpose(3, 2, 0, 1)
    moved = state | {
        "bn1.running_mean": folded["batch_stats"]["encoder"]["stem_bn"]["mean"]
    }
    ours = norm(conv(images.transpose(0, 3, 1, 2), kernel), moved, "bn1")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    before = found.variables["params"]["encoder"]["stem_conv"]["kernel"]
    np.testing.assert_array_equal(before, state["conv1.weight"].transpose(2, 3, 1, 0))


def test_a_file_of_torch_without_torch(tmp_path):
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("PyTorch is installed")
    (tmp_path / "moco.pth").write_bytes(b"PK")
    with pytest.raises(ImportError, match=r"moco\.pth needs PyTorch to be read: pip"):
        weights.read(tmp_path / "moco.pth")


def test_a_file_of_torch(tmp_path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed; a CPU build is enough")
    import torch

    state = drawn_state(18)
    tensors = {f"module.encoder_q.{k}": torch.tensor(x) for k, x in state.items()}
    whole = {"epoch": 200, "arch": "resnet18", "state_dict": tensors}
    torch.save(whole, tmp_path / "moco.pth.tar")
    found = weights.read(tmp_path / "moco.pth.tar")
    kernel = found.variables["params"]["encoder"]["stem_conv"]["kernel"]
    np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0))
    torch.save({"state_dict": test_a_file_of_torch}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="PyTorch can't read"):
        weights.read(tmp_path / "code.pth")


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        weights.read(tmp_path / "x.safetensors")


def test_half_precision_is_read(tmp_path):
    state = {k: np.asarray(x, np.float16) for k, x in drawn_state(18).items()}
    save_file(state, tmp_path / "half.safetensors")
    found = weights.read(tmp_path / "half.safetensors")
    assert found.variables["params"]["encoder"]["stem_bn"]["scale"].dtype == np.float32
