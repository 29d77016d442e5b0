"""Times lightly's SimCLR in PyTorch: the other side of throughput.py.

`throughput.py --peer=PYTHON` runs this file by an interpreter that has torch and
lightly. It reads requests as JSON lines on stdin, {"case": ..., "mode": "train" |
"step" | "compiled", "steps": n, "data": path}, and answers each with {"seconds": of
the n steps}. "train" uses lightly's transform on as many data workers as there are
cores (but one), its loss and head, and Adam; "step" is the same on two given batches,
and "compiled" is "step" through torch.compile. Convolutions run channels_last. On a GPU
Adam is fused, cuDNN chooses by measuring, and a bfloat16 case runs under autocast.
"""

import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
WORKERS = max(2, (os.cpu_count() or 2) - 1)
torch.backends.cudnn.benchmark = True
torch.set_float32_matmul_precision("high")  # TF32, as XLA
torch.backends.cudnn.allow_tf32 = True

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # PyPI's torchvision is built for CUDA. With a CPU torch its import fails at two
    # operators that nothing here uses; declaring their names is enough.
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(
            f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )

from lightly.loss import NTXentLoss  # noqa: E402
from lightly.models.modules import SimCLRProjectionHead  # noqa: E402
from lightly.transforms import SimCLRTransform  # noqa: E402
from PIL import Image  # noqa: E402


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """A residual block: two 3x3, or 1x1, 3x3 and 1x1 to four times the channels."""

    def __init__(self, inputs: int, channels: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = channels * (4 if bottleneck else 1)
        if bottleneck:
            sizes = [(1, 1, channels), (3, stride, channels), (1, 1, outputs)]
        else:
            sizes = [(3, stride, channels), (3, 1, channels)]
        layers: list[nn.Module] = []
        last = inputs
        for size, step, width in sizes:
            layers.append(nn.Conv2d(last, width, size, step, size // 2, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            last = width
        self.layers = nn.Sequential(*layers[:-1])
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.layers(x) + self.shortcut(x))


def encoder(depth: int, width: float, size: int) -> tuple[nn.Module, int]:
    """torchvision's ResNet, with CIFAR's stem below 96 px; and its features."""
    blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    channels, bottleneck = int(64 * width), depth >= 50
    kernel, step = (3, 1) if size < 96 else (7, 2)
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels, kernel, step, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
    if size >= 96:
        layers.append(nn.MaxPool2d(3, 2, 1))
    last = channels
    for stage, count in enumerate(blocks):
        for i in range(count):
            wide = channels * 2**stage
            stride = 2 if stage and not i else 1
            layers.append(Block(last, wide, stride, bottleneck))
            last = wide * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), last


class Views(torch.utils.data.Dataset):
    def __init__(self, images: np.ndarray, blur: float):
        self.images = images
        self.transform = SimCLRTransform(
            input_size=images.shape[1],
            cj_strength=1.0 if blur else 0.5,
            gaussian_blur=blur,
            normalize=None,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i]))


class Peer:
    """One case: the network, its optimizer and the images."""

    def __init__(self, case: dict, path: str):
        self.batch, self.blur = case["batch"], case["blur"]
        self.images = np.load(path)
        self.half = CUDA and case["precision"] == "bfloat16"
        body, features = encoder(case["depth"], case["width"], case["size"])
        head = SimCLRProjectionHead(features, features, 128)
        self.net = nn.Sequential(body, head).to(
            DEVICE, memory_format=torch.channels_last
        )
        self.compiled = torch.compile(self.net)  # at its first call
        self.optimizer = torch.optim.Adam(self.net.parameters(), 1e-3, fused=CUDA)
        self.loss = NTXentLoss(0.5)

    def step(self, net: nn.Module, a, b) -> None:
        x = torch.cat([a, b]).to(DEVICE, non_blocking=True)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.half):
            z = net(x)
        loss = self.loss(*z.float().chunk(2))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def run(self, mode: str, steps: int) -> float:
        batches = self._batches(mode)
        net = self.compiled if mode == "compiled" else self.net
        for _ in range(3 if CUDA else 1):  # warms up, and starts the workers
            self.step(net, *next(batches))
        _wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.step(net, *next(batches))
        _wait()
        return time.perf_counter() - start

    def _batches(self, mode: str):
        if mode != "train":
            images = torch.from_numpy(self.images[: 2 * self.batch])
            pair = (images.permute(0, 3, 1, 2).float() / 255).to(DEVICE).chunk(2)
            while True:
                yield pair
        views = Views(self.images, self.blur)
        # Without an end: each epoch would start the workers again.
        endless = torch.utils.data.RandomSampler(
            views, replacement=True, num_samples=10**9
        )
        loader = torch.utils.data.DataLoader(
            views,
            self.batch,
            sampler=endless,
            num_workers=WORKERS,
            pin_memory=CUDA,
        )
        for (a, b), *_ in (x if isinstance(x, tuple) else (x,) for x in loader):
            yield a, b


def _wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def main() -> None:
    # Only answers go to the pipe; what a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(os.cpu_count() or 1)
    current, peer = None, None
    for line in sys.stdin:
        request = json.loads(line)
        if current != request["case"]:
            current = request["case"]
            peer = Peer(current, request["data"])
        assert peer is not None
        seconds = peer.run(request["mode"], request["steps"])
        versions = {"torch": torch.__version__}
        answers.write(json.dumps({"seconds": seconds, "versions": versions}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
