"""Times the loader of PyTorch's users: the other side of streaming.py.

`streaming.py --peer=PYTHON` runs this file by an interpreter that has torch,
torchvision and lightly, as `PYTHON peer_loader.py FOLDER CORES ROWS`. torchvision's
ImageFolder reads FOLDER/CLASS/*.jpg, shuffled, in batches of 64, and PyTorch's
DataLoader has a worker process for each core. The workers have started and have read a
batch each before the clock starts. The last line printed is JSON: versions, and rows of
streaming.py's table.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import peer_simclr  # noqa: F401  makes torchvision importable beside a CPU torch
import torch
from lightly.transforms import SimCLRTransform
from torchvision import transforms
from torchvision.datasets import ImageFolder

BATCH, SIZE, VIEW = 64, 256, 224
TRANSFORMS = {
    "peer_resize": lambda: transforms.Compose(
        [
            transforms.Resize(SIZE),
            transforms.CenterCrop(SIZE),
            transforms.PILToTensor(),
        ]
    ),
    "peer_crop": lambda: transforms.Compose(
        [transforms.RandomResizedCrop(VIEW), transforms.ToTensor()]
    ),
    "peer_simclr": lambda: SimCLRTransform(input_size=VIEW),
}


class Order(torch.utils.data.Sampler):
    """What the next epoch reads; the workers stay."""

    def __init__(self):
        self.indices: list[int] = []

    def __iter__(self):
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def cpu_seconds(processes: list[int]) -> float:
    """Processor time of this process and of its workers, so far."""
    ticks = 0
    for process in processes:
        # After the name, which may hold anything but ends with the last ")".
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def row(folder: str, transform, cores: int) -> dict[str, float]:
    images, order = ImageFolder(folder, transform), Order()
    loader = torch.utils.data.DataLoader(
        images, BATCH, sampler=order, num_workers=cores, persistent_workers=True
    )
    everything = torch.randperm(len(images)).tolist()
    order.indices = everything[: BATCH * cores]
    for _ in loader:  # starts the workers
        pass
    order.indices = everything
    workers = [process.pid for process in loader._iterator._workers]
    wall, cpu = time.perf_counter(), cpu_seconds(workers)
    count = sum(len(labels) for _, labels in loader)
    wall, cpu = time.perf_counter() - wall, cpu_seconds(workers) - cpu
    return {"cpu_ms": 1e3 * cpu / count, "images_per_s": count / wall}


def main() -> None:
    folder, cores, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    measured = {
        name: row(folder, make(), cores)
        for name, make in TRANSFORMS.items()
        if rows == [""] or name in rows
    }
    packages = ("torch", "torchvision", "lightly", "pillow")
    versions = {name: version(name) for name in packages}
    print(json.dumps({"versions": versions, "rows": measured}))


if __name__ == "__main__":
    main()
