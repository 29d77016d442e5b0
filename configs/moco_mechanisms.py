"""Where should the negatives come from? MoCo's figure 3, on two cores or on a GPU.

    python launch.py --config=configs/moco_mechanisms.py --workdir=runs/moco --sweep
    python launch.py --config=configs/moco_mechanisms.py:cifar10 --workdir=... --sweep

Compares three mechanisms over the number of negatives (arXiv 1911.05722, section 4.1).
The queue and the memory bank have any number of negatives at one batch size. End-to-end
training takes its negatives from the batch, so its batch grows with them: up to 1,024
on 8 GPUs in the paper. The sweep's report draws the figure.

The default (`:cpu`) trains on 5,000 images for 10 epochs with batch 64, up to 512 for
end-to-end. `:cifar10` needs a GPU: the setting of `configs/cifar10.py:moco`, 200 epochs
with batch 256, up to 1,024 for end-to-end. Its longest queue holds a third of the
images. The paper's figure goes from 256 to 65,536 negatives on ImageNet, with a linear
head.
"""

from configs import cifar10, cifar10_cpu

_NEGATIVES = {
    "cpu": (64, 128, 256, 512, 1024, 2048, 4096),
    "cifar10": (256, 512, 1024, 4096, 16_384),
}
_END_TO_END = {"cpu": 512, "cifar10": 1024}  # the largest batch


def get_config(variant: str = "cpu"):
    _check(variant)
    if variant == "cpu":
        config = cifar10_cpu.get_config("moco")
        config.batch_size = 64
        config.method.bn_groups = 2  # groups of 32 images, as in the paper
        config.epochs = 10
        config.data.limit = 5_000
    else:
        config = cifar10.get_config("moco")
    config.stages = ("pretrain", "probe")
    config.probe.every_epochs = 0
    return config


def sweep(variant: str = "cpu"):
    _check(variant)
    rows = {}
    for mechanism in ("end_to_end", "memory_bank", "queue"):
        for negatives in _NEGATIVES[variant]:
            changes = {
                "method.mechanism": mechanism,
                # End-to-end has batch - 1 and ignores this, but the axis needs it.
                "method.queue_size": negatives,
            }
            if mechanism == "end_to_end":
                if negatives > _END_TO_END[variant]:
                    continue
                changes |= {
                    "batch_size": negatives,
                    "method.bn_groups": negatives // 32,
                }
                # A larger batch has fewer steps, so its rate is higher. SGD's rate is
                # scaled by the recipe, as in the paper.
                if variant == "cpu":
                    changes["optimizer.lr"] = 1e-3 * (negatives / 64) ** 0.5
            rows[f"{mechanism}-{negatives}"] = changes
    return {
        "rows": rows,
        "baseline": "queue-4096",
        "chart": {
            "kind": "lines",
            "x": "method.queue_size",
            "lines": "method.mechanism",
        },
    }


def _check(variant: str) -> None:
    if variant not in _NEGATIVES:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_NEGATIVES)}")
