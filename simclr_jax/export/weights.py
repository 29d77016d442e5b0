"""Reads the weights of an encoder from a file: ours, or one of PyTorch.

Ours is what `export.safetensors` writes. PyTorch's has the names of torchvision's
ResNet, as safetensors or as what `torch.save` writes (.pth, .pt, .pth.tar). The latter
needs PyTorch, which reads tensors from it and runs nothing that is in the file.
"""

import importlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from simclr_jax.encoders import BASIC_DEPTHS, DEPTHS
from simclr_jax.errors import one_line
from simclr_jax.export import safetensors

# ImageNet's mean and standard deviation, by which torchvision and MoCo normalise.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Where a file of `torch.save` may keep its tensors.
_PARTS = ("state_dict", "model", "model_state_dict")
# Networks beside the one that was trained: MoCo's keys, moving averages.
_OTHERS = re.compile(r"(_k|momentum|target|teacher|ema)\b", re.IGNORECASE)
_STEM = {"conv1": "stem_conv", "bn1": "stem_bn"}
_SHORTCUT = {"downsample.0": "shortcut_conv", "downsample.1": "shortcut_bn"}
_LEAVES = {
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


class Weights(NamedTuple):
    """An encoder from a file.

    Attributes:
      about: `encoder` (the fields of `ResNet`) and `channels`. Of our own files all
        that `experiment.description` lists.
      variables: flax's `{"params", "batch_stats"}` in NumPy, each with "encoder" and,
        of our own files, "projector".
      ours: whether it is a file of our own.
    """

    about: dict[str, Any]
    variables: dict[str, Any]
    ours: bool = False


def read(path: str | os.PathLike) -> Weights:
    """The encoder in a file.

    Raises:
      ValueError: it can't be read, or holds no ResNet of torchvision's form.
      ImportError: it is a file of `torch.save`, and PyTorch is missing.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return of_torch(_torch_tensors(path), str(path))
    try:
        named = safetensors.read_foreign(path)
    except safetensors.OursError:
        return Weights(*safetensors.read(path), ours=True)
    return of_torch(named, str(path))


def of_torch(named: Mapping[str, np.ndarray], where: str) -> Weights:
    """The ResNet among PyTorch's named arrays.

    A prefix of the names, as MoCo's `module.encoder_q.`, is left out; heads are too.

    Args:
      named: kernels are [out, in, height, width].
      where: names the file in messages.

    Raises:
      ValueError: there is no ResNet of torchvision's form, or several.
    """
    prefix = _prefix(named, where)
    own = {k.removeprefix(prefix): x for k, x in named.items() if k.startswith(prefix)}
    flat: dict[tuple[str, ...], np.ndarray] = {}
    for name, array in own.items():
        if not re.match(r"(conv|bn|layer)\d", name) or name.endswith("tracked"):
            continue  # heads and counters
        if not np.isfinite(array).all():
            raise ValueError(f"{where}: {prefix}{name} is not finite")
        place = _place(name, array.ndim)
        if place is None:
            raise ValueError(
                f"{where} has {prefix}{name}, which torchvision's ResNet has not"
            )
        kernel = array.ndim == 4  # becomes height, width, in, out
        turned = array.transpose(2, 3, 1, 0) if kernel else array
        flat[place] = np.ascontiguousarray(turned, dtype=np.float32)
    tree = unflatten_dict(flat)
    stem = own["conv1.weight"]
    about = {
        "encoder": {
            "depth": _depth(own, where),
            "width": stem.shape[0] / 64,
            "sk": False,
            "stem": "imagenet" if stem.shape[-1] == 7 else "cifar",
        },
        "channels": int(stem.shape[1]),
    }
    names = ("params", "batch_stats")
    return Weights(about, {name: {"encoder": tree.get(name, {})} for name in names})


def without_normalisation(variables: dict[str, Any]) -> dict[str, Any]:
    """The encoder for pixels in [0, 1], of one for pixels that ImageNet's mean and
    standard deviation normalise.

    The first kernel is divided by the deviation, and BatchNorm's mean takes up the
    rest. Features are the same but for the images' border, where convolutions see
    zeros: the mean colour before, black now.

    Args:
      variables: as in `Weights`, of an encoder of 3 channels.
    """
    params, stats = (variables[key]["encoder"] for key in ("params", "batch_stats"))
    kernel = params["stem_conv"]["kernel"] / np.array(STD, np.float32)[:, None]
    shift = np.einsum("hwio,i->o", kernel, np.array(MEAN, np.float32))
    norm = stats["stem_bn"]
    params = params | {"stem_conv": {"kernel": kernel}}
    stats = stats | {"stem_bn": norm | {"mean": norm["mean"] + shift}}
    return {
        "params": variables["params"] | {"encoder": params},
        "batch_stats": variables["batch_stats"] | {"encoder": stats},
    }


def _torch_tensors(path: Path) -> dict[str, np.ndarray]:
    """The named tensors in a file of `torch.save`."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"{path} needs PyTorch to be read: pip install torch, or write it as "
            "safetensors where PyTorch is"
        ) from error
    try:
        # weights_only: pickle could run anything that the file says.
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types for a damaged file
        raise ValueError(f"PyTorch can't read {path}: {one_line(error)}") from error
    for name in _PARTS:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    tensors = found.items() if isinstance(found, dict) else ()
    return {
        name: x.detach().float().numpy() for name, x in tensors if torch.is_tensor(x)
    }


def _prefix(names: Iterable[str], where: str) -> str:
    """What stands before "conv1.weight" in the names of the trained network."""
    there = set(names)
    stem = "conv1.weight"
    first = [x.removesuffix(stem) for x in sorted(there) if x.endswith(stem)]
    found = [x for x in first if f"{x}layer1.0.{stem}" in there]
    trained = [x for x in found if not _OTHERS.search(x)]
    if len(trained) == 1:
        return trained[0]
    if not found:
        raise ValueError(f"{where} has no layers named as in torchvision's ResNet")
    listed = ", ".join(f"{x}*" for x in found)
    raise ValueError(f"{where} has several networks: {listed}; keep one")


def _place(name: str, dims: int) -> tuple[str, ...] | None:
    """ "layer2.0.bn1.weight" -> ("params", "stage2_block1", "bn1", "scale")."""
    layer, _, leaf = name.rpartition(".")
    if leaf == "weight":
        collection, leaf = "params", "kernel" if dims == 4 else "scale"
    elif leaf in _LEAVES:
        collection, leaf = _LEAVES[leaf]
    else:
        return None
    if block := re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", layer):
        inner = _SHORTCUT.get(block[3], block[3])
        if block[3] in _SHORTCUT or re.fullmatch(r"(conv|bn)[1-3]", inner):
            above = f"stage{block[1]}_block{int(block[2]) + 1}"
            return collection, above, inner, leaf
    return (collection, _STEM[layer], leaf) if layer in _STEM else None


def _depth(names: Mapping[str, np.ndarray], where: str) -> int:
    blocks = tuple(
        len({x.split(".")[1] for x in names if x.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    )
    basic = "layer1.0.conv3.weight" not in names
    for depth, counts in DEPTHS.items():
        if counts == blocks and basic == (depth in BASIC_DEPTHS):
            return depth
    kind = "basic" if basic else "bottleneck"
    raise ValueError(f"{where} has {blocks} {kind} blocks, which is no ResNet of ours")
