"""An encoder's weights as PyTorch has them, under the names of torchvision's ResNet.

    simclr_jax.export.torch.save("resnet18.safetensors", simclr_jax.load("runs/photos"))

In PyTorch:

    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()  # unless the network has a classifier on h
    model.load_state_dict(safetensors.torch.load_file("resnet18.safetensors"))
    h = model.eval()(images)  # [B, 3, s, s] in [0, 1], without torchvision's Normalize

With the stem "cifar", first put
`model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)` and
`model.maxpool = torch.nn.Identity()`. A ResNet-10 or 200 is
`torchvision.models.ResNet(BasicBlock or Bottleneck, blocks)`. The names are the same
for every width, but torchvision's classes have width 1.
"""

import os
import re
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from simclr_jax.export import safetensors

_LAYERS = {
    "stem_conv": "conv1",
    "stem_bn": "bn1",
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


# Depths of torchvision's classes, all of width 1, with the ImageNet stem, for RGB.
_DEPTHS = (18, 34, 50, 101, 152)


def differs(encoder: Any) -> str:
    """What keeps torchvision's classes from loading the weights, in one line.

    Args:
      encoder: as `simclr_jax.load` gives it.

    Returns:
      "" if there is a class, as torchvision.models.resnet18.
    """
    network, channels = encoder.module.encoder, encoder.config["channels"]
    facts = {
        f"depth {network.depth}": network.depth not in _DEPTHS,
        f"width {network.width:g}": network.width != 1,
        f"stem {network.stem}": network.stem != "imagenet",
        f"channels {channels}": channels != 3,
    }
    if not any(facts.values()):
        return ""
    named = ", ".join(fact for fact, is_so in facts.items() if is_so)
    return (
        f"torchvision has no class for this network ({named}): the weights have its "
        "names, the class has to be your own; docs/encoder.md says more under PyTorch"
    )


def state_dict(encoder: Any) -> dict[str, np.ndarray]:
    """The weights of the ResNet, and as "fc" those of a classifier on h.

    Kernels are [out, in, height, width]. The projector has no place in it.

    Args:
      encoder: as `simclr_jax.load` gives it.

    Returns:
      name -> NumPy array, for `load_state_dict` with `torch.from_numpy`.

    Raises:
      ValueError: the network has selective kernels, which torchvision's has not.
    """
    module, variables = encoder.module, encoder.variables
    if module.encoder.sk:
        raise ValueError("a network with selective kernels is no ResNet of torchvision")
    found: dict[str, np.ndarray] = {}
    for collection in ("params", "batch_stats"):
        for path, leaf in flatten_dict(variables[collection]["encoder"]).items():
            *layers, name = path
            place = ".".join(map(_renamed, layers))
            array = np.asarray(leaf)
            if array.ndim == 4:  # height, width, in, out
                array = array.transpose(3, 2, 0, 1)
            found[f"{place}.{_LEAVES[name]}"] = np.ascontiguousarray(array)
            if name == "mean":
                found[f"{place}.num_batches_tracked"] = np.array(0, np.int64)
    if module.classifier is not None and module.upto == 0:
        dense = variables["params"]["classifier"]["dense"]
        found["fc.weight"] = np.ascontiguousarray(np.asarray(dense["kernel"]).T)
        found["fc.bias"] = np.asarray(dense["bias"])
    return found


def save(path: str | os.PathLike, encoder: Any) -> None:
    """Writes `state_dict(encoder)` as a safetensors file.

    Its metadata describe the network, as in `encoder.safetensors`.

    Args:
      path: of the file; an older one is replaced.
      encoder: as `simclr_jax.load` gives it.

    Raises:
      ValueError: as `state_dict`.
      OSError: it can't be written.
    """
    safetensors.write(path, state_dict(encoder), encoder.config, "pt")


def _renamed(layer: str) -> str:
    """ "stage2_block1" -> "layer2.0"; "shortcut_bn" -> "downsample.1"."""
    if block := re.fullmatch(r"stage(\d)_block(\d+)", layer):
        return f"layer{block[1]}.{int(block[2]) - 1}"
    return _LAYERS.get(layer, layer)
