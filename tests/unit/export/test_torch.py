"""The weights in PyTorch's form: torchvision's names and shapes, and its features."""

import importlib.util
import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny import ROOT

from simclr_jax import augment
from simclr_jax.data.image_files import decode
from simclr_jax.encoders import ResNet
from simclr_jax.export import torch as export
from simclr_jax.heads import Classifier, Projector
from simclr_jax.pretrained import Levels

# torchvision.models.resnet18().state_dict(), without fc: its first layers, and the
# blocks that differ in form.
STEM = {"conv1.weight": [64, 3, 7, 7], "bn1": [64]}
BLOCKS_18 = {
    "layer1.0.conv1.weight": [64, 64, 3, 3],
    "layer1.0.bn1": [64],
    "layer1.0.conv2.weight": [64, 64, 3, 3],
    "layer1.0.bn2": [64],
    "layer2.0.conv1.weight": [128, 64, 3, 3],
    "layer2.0.bn1": [128],
    "layer2.0.conv2.weight": [128, 128, 3, 3],
    "layer2.0.bn2": [128],
    "layer2.0.downsample.0.weight": [128, 64, 1, 1],
    "layer2.0.downsample.1": [128],
    "layer4.1.conv2.weight": [512, 512, 3, 3],
    "layer4.1.bn2": [512],
}
# The same of resnet50.
BLOCKS_50 = {
    "layer1.0.conv1.weight": [64, 64, 1, 1],
    "layer1.0.conv2.weight": [64, 64, 3, 3],
    "layer1.0.conv3.weight": [256, 64, 1, 1],
    "layer1.0.bn3": [256],
    "layer1.0.downsample.0.weight": [256, 64, 1, 1],
    "layer1.0.downsample.1": [256],
    "layer3.5.conv1.weight": [256, 1024, 1, 1],
    "layer4.2.bn3": [2048],
}
# len(model.state_dict()) of torchvision's models, less fc.weight and fc.bias.
ENTRIES = {18: 120, 34: 216, 50: 318, 101: 624}
NORM = ("weight", "bias", "running_mean", "running_var")


def encoder(depth, classes=0, upto=None, **options):
    module = Levels(
        ResNet(depth=depth, **options),
        Projector(),
        Classifier(classes) if classes else None,
        upto,
    )

    def init():
        return module.init(
            jax.random.key(0),
            jnp.zeros((1, 32, 32, 3)),
            method="logits" if classes else None,
        )

    shapes = jax.eval_shape(init)
    draws = np.random.default_rng(depth)
    variables = jax.tree.map(
        lambda x: draws.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes
    )
    return SimpleNamespace(module=module, variables=variables, config={"size": 32})


@pytest.mark.parametrize("depth, blocks", [(18, BLOCKS_18), (50, BLOCKS_50)])
def test_names_and_shapes_are_torchvisions(depth, blocks):
    found = export.state_dict(encoder(depth))
    for name, shape in (STEM | blocks).items():
        if name.endswith("weight"):
            assert list(found[name].shape) == shape, name
            continue
        for leaf in NORM:
            assert list(found[f"{name}.{leaf}"].shape) == shape, (name, leaf)
        assert found[f"{name}.num_batches_tracked"].dtype == np.int64
    assert "layer1.0.downsample.0.weight" in found or depth == 18
    assert not any(name.startswith(("fc", "projector")) for name in found)


@pytest.mark.parametrize("depth, entries", ENTRIES.items())
def test_there_are_as_many_entries_as_in_torchvision(depth, entries):
    assert len(export.state_dict(encoder(depth))) == entries


def test_each_number_is_in_its_place():
    """Height and width, and in and out, are not mixed up."""
    given = encoder(10, width=0.125, stem="cifar")
    found = export.state_dict(given)
    params = given.variables["params"]["encoder"]
    kernel = params["stage2_block1"]["conv1"]["kernel"]
    ours = kernel[0, 2, 3, 5]  # row 0, column 2, from channel 3 to channel 5
    assert found["layer2.0.conv1.weight"][5, 3, 0, 2] == ours
    statistics = given.variables["batch_stats"]["encoder"]["stage2_block1"]
    wanted = {
        "layer2.0.bn2.weight": params["stage2_block1"]["bn2"]["scale"],
        "layer2.0.bn2.bias": params["stage2_block1"]["bn2"]["bias"],
        "layer2.0.bn2.running_mean": statistics["bn2"]["mean"],
        "layer2.0.downsample.1.running_var": statistics["shortcut_bn"]["var"],
    }
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_classifier_on_h_is_fc():
    found = export.state_dict(encoder(10, classes=7, upto=0, width=0.125))
    assert found["fc.weight"].shape == (7, 64)
    assert found["fc.bias"].shape == (7,)
    from_the_head = export.state_dict(encoder(10, classes=7, upto=1, width=0.125))
    assert "fc.weight" not in from_the_head


def test_selective_kernels_are_refused():
    with pytest.raises(ValueError, match="selective kernels"):
        export.state_dict(encoder(10, width=0.125, sk=True))


@pytest.mark.parametrize(
    "depth, options, channels, named",
    [
        (10, {}, 3, "depth 10"),
        (18, {"width": 0.25, "stem": "cifar"}, 3, "width 0.25, stem cifar"),
        (10, {"width": 0.25}, 1, "depth 10, width 0.25, channels 1"),
    ],
)
def test_what_torchvision_has_no_class_for_is_said(depth, options, channels, named):
    """Its resnet18() failed at "Missing key(s) in state_dict" without a word before."""
    given = encoder(depth, **options)
    given.config["channels"] = channels
    line = export.differs(given)
    assert line.startswith(f"torchvision has no class for this network ({named}): ")


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_torchvision_has_a_class_for_these(depth):
    module = SimpleNamespace(encoder=ResNet(depth=depth))
    given = SimpleNamespace(module=module, config={"channels": 3})
    assert export.differs(given) == ""


def test_the_file_is_one_of_pytorch(tmp_path):
    from safetensors import safe_open

    given = encoder(10, width=0.125)
    export.save(tmp_path / "resnet.safetensors", given)
    with safe_open(tmp_path / "resnet.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["size"]) == 32
        for name, array in export.state_dict(given).items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


def test_torch_loads_it_and_agrees():
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; CPU builds are enough")
    import torch
    import torch_resnet

    given = encoder(18)
    tensors = {k: torch.from_numpy(x) for k, x in export.state_dict(given).items()}
    model = torch_resnet.resnet(18)
    model.load_state_dict(tensors, strict=True)
    images = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    ours = np.asarray(given.module.apply(given.variables, images)["h"])
    sd = theirs.astype(np.float64).std()  # these weights' squares overflow float32
    np.testing.assert_allclose(ours / sd, theirs / sd, atol=1e-4)


@pytest.mark.parametrize("stored, size", [(80, 64), (37, 32), (32, 32)])
def test_the_pages_pixels_are_what_the_network_sees(tmp_path, stored, size):
    """docs/encoder.md repeats in PyTorch what `embed` does with a photo."""
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; CPU builds are enough")
    from torchvision.transforms.v2 import functional

    page = (ROOT / "docs" / "encoder.md").read_text()
    (code,) = re.findall(r"^def pixels\(.*?(?=^\S)", page, re.M | re.S)[:1]
    names = {"functional": functional, "Image": Image, "ImageOps": ImageOps}
    names |= {"stored": stored, "size": size}
    exec(code, names)
    noise = np.random.default_rng(0).integers(0, 256, (51, 40, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    photo = Image.fromarray(noise).resize((411, 300))
    photo.save(tmp_path / "large.jpg", exif=turned)
    photo.resize((75, 90)).save(tmp_path / "small.png")
    for file in tmp_path.iterdir():
        seen = augment.to_float(decode(file, stored)[None])
        wanted = augment.center(seen, size=size)[0]
        found = names["pixels"](file).numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(found, wanted, atol=2e-6)
