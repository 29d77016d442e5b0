"""torchvision's ResNet as a reference, and its weights under our names."""

from typing import Any

import numpy as np
import torch

_keep_alive: list[Any] = []  # a torch.library.Library takes back its names when freed


def _torchvision_models() -> Any:
    """torchvision.models, also where its compiled operators do not load.

    The registry's torchvision wheel is built for CUDA. Beside a CPU torch its extension
    fails to load and the import stops at two detection operators that ResNet does not
    use; declaring their names is enough.
    """
    try:
        import torchvision.models as models
    except RuntimeError:
        operators = torch.library.Library("torchvision", "DEF")
        box = "Tensor dets, Tensor scores, float iou_threshold"
        operators.define(f"nms({box}) -> Tensor")
        operators.define(f"qnms({box}) -> Tensor")
        _keep_alive.append(operators)
        import torchvision.models as models
    return models


def resnet(depth: int) -> torch.nn.Module:
    """torchvision's resnet{depth} without fc, in eval mode."""
    model = getattr(_torchvision_models(), f"resnet{depth}")(weights=None)
    model.fc = torch.nn.Identity()
    return model.eval()


def to_flax(state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A torchvision ResNet's state_dict as {"params", "batch_stats"} of ours.

    The arrays are views: what is written into them is in the torch model.
    """
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tensor in state_dict.items():
        *path, leaf = name.split(".")
        if path[0] == "fc" or leaf == "num_batches_tracked":
            continue
        value = np.asarray(tensor.detach())
        if value.ndim == 4:  # out, in, height, width
            collection, leaf, value = "params", "kernel", value.transpose(2, 3, 1, 0)
        else:
            collection, leaf = {
                "weight": ("params", "scale"),
                "bias": ("params", "bias"),
                "running_mean": ("batch_stats", "mean"),
                "running_var": ("batch_stats", "var"),
            }[leaf]
        node = variables[collection]
        for part in _path(path):
            node = node.setdefault(part, {})
        node[leaf] = value
    return variables


def _path(path: list[str]) -> list[str]:
    """["layer2", "0", "downsample", "1"] -> ["stage2_block1", "shortcut_bn"]."""
    if not path[0].startswith("layer"):
        return [{"conv1": "stem_conv", "bn1": "stem_bn"}[path[0]]]
    stage, block, *rest = path
    names = {("downsample", "0"): "shortcut_conv", ("downsample", "1"): "shortcut_bn"}
    layer = names.get(tuple(rest)) or rest[0]
    return [f"stage{stage.removeprefix('layer')}_block{int(block) + 1}", layer]
