"""Where should the negatives come from? MoCo's figure 3, on two cores.

    python launch.py --config=configs/moco_mechanisms.py --workdir=runs/moco --sweep

Compares three mechanisms over the number of negatives. The queue and the memory bank
have any number of negatives at batch 64. End-to-end training takes its negatives from
the batch, so its batch grows with them: up to 512 here, up to 1,024 on 8 GPUs in the
paper (arXiv 1911.05722, section 4.1). It trains on 5,000 images for 10 epochs. The
sweep's report draws the figure.
"""

from configs import cifar10_cpu

_BATCH = 64
_NEGATIVES = (64, 128, 256, 512, 1024, 2048, 4096)
_END_TO_END = 512  # the largest batch


def get_config():
    config = cifar10_cpu.get_config("moco")
    config.stages = ("pretrain", "probe")
    config.batch_size = _BATCH
    config.method.bn_groups = 2  # groups of 32 images, as in the paper
    config.epochs = 10
    config.data.limit = 5_000
    config.probe.every_epochs = 0
    return config


def sweep():
    rows = {}
    for mechanism in ("end_to_end", "memory_bank", "queue"):
        for negatives in _NEGATIVES:
            changes = {
                "method.mechanism": mechanism,
                # End-to-end has batch - 1 and ignores this, but the axis needs it.
                "method.queue_size": negatives,
            }
            if mechanism == "end_to_end":
                if negatives > _END_TO_END:
                    continue
                # A larger batch has fewer steps, so its rate is higher.
                changes |= {
                    "batch_size": negatives,
                    "method.bn_groups": negatives // 32,
                    "optimizer.lr": 1e-3 * (negatives / _BATCH) ** 0.5,
                }
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
