"""Do bigger networks need fewer labels? SimCLRv2's 13 networks.

    python launch.py --config=configs/simclrv2_networks.py --workdir=runs/linear \\
        --sweep --config.data.data_dir=TFDS
    python launch.py --config=configs/simclrv2_networks.py:1percent --workdir=... \\
        --sweep --config.stages="('finetune',)" \\
        --config.pretrained='runs/linear/{row}/seed_{seed}'
    python launch.py --config=configs/simclrv2_networks.py:cifar10 --workdir=... --sweep

The networks are ResNet-50, 101 and 152 of width 1 and 2, with and without selective
kernels (SK), and a ResNet-152 of width 3 with SK. A variant is a column of arXiv
2006.10029, table 1, on ImageNet: `:linear` (the default), fine-tuned on `:1percent`,
`:10percent` or `:100percent` of the labels, and `:supervised`. The report's table has
the published figures. Each fine-tuning variant pretrains too, unless it is given the
encoders of an earlier sweep, as in the second command. **Not run here**: a run needs
the time of many GPUs. The setting is that of `configs/simclrv2.py`, without the paper's
memory (see there); supervised training is ours, untuned.

`:cifar10` trains the 13 networks on CIFAR-10, on one GPU, in the setting of
`configs/simclrv2.py:cifar10`. It scores fine-tuning on 1 % of the labels; results.json
also has probe and supervised network. For 10 % (for all: 1.0, and from_layer=0):

    ... --sweep --config.stages="('finetune',)" --config.finetune.label_fraction=0.1 \\
        --config.finetune.epochs=30 --config.pretrained='EARLIER/{row}/seed_{seed}'
"""

from configs import common, simclrv2

# (depth, width, selective kernels) -> table 1: fine-tuned on 1 %, 10 % and all of the
# labels, linear, supervised (also in google-research/simclr, README).
_TABLE = {
    (50, 1, False): (57.9, 68.4, 76.3, 71.7, 76.6),
    (50, 1, True): (64.5, 72.1, 78.7, 74.6, 78.5),
    (50, 2, False): (66.3, 73.9, 79.1, 75.6, 77.8),
    (50, 2, True): (70.6, 77.0, 81.3, 77.7, 79.3),
    (101, 1, False): (62.1, 71.4, 78.2, 73.6, 78.0),
    (101, 1, True): (68.3, 75.1, 80.6, 76.3, 79.6),
    (101, 2, False): (69.1, 75.8, 80.7, 77.0, 78.9),
    (101, 2, True): (73.2, 78.8, 82.4, 79.0, 80.1),
    (152, 1, False): (64.0, 73.0, 79.3, 74.5, 78.3),
    (152, 1, True): (70.0, 76.5, 81.3, 77.2, 79.9),
    (152, 2, False): (70.2, 76.6, 81.1, 77.4, 79.1),
    (152, 2, True): (74.2, 79.4, 82.9, 79.4, 80.4),
    (152, 3, True): (74.9, 80.1, 83.1, 79.8, 80.5),
}
_COLUMNS = ("1percent", "10percent", "100percent", "linear", "supervised")
_VARIANTS = ("linear", "1percent", "10percent", "100percent", "supervised", "cifar10")
# (share of the labels, epochs, first layer of the head), section 3.
_FINETUNE = {
    "1percent": (0.01, 60, 1),
    "10percent": (0.1, 30, 1),
    "100percent": (1.0, 30, 0),
}


def get_config(variant: str = "linear"):
    _check(variant)
    config = simclrv2.get_config("cifar10" if variant == "cifar10" else "imagenet")
    config.published = common.get_config().published  # of one network
    config.probe.every_epochs = 0
    if variant == "cifar10":
        config.stages = ("pretrain", "probe", "finetune", "supervised")
        config.microbatch = 128  # for the memory of the larger networks
    elif variant == "supervised":
        config.stages = ("supervised",)
    elif variant == "linear":
        config.stages = ("pretrain", "probe")
    else:
        config.stages = ("pretrain", "finetune")
        fields = config.finetune
        fields.label_fraction, fields.epochs, fields.from_layer = _FINETUNE[variant]
    return config


def sweep(variant: str = "linear"):
    _check(variant)
    rows, published = {}, {}
    for (depth, width, sk), figures in _TABLE.items():
        row = f"resnet{depth}-{width}x{'-sk' if sk else ''}"
        rows[row] = {
            "encoder.depth": depth,
            "encoder.width": float(width),
            "encoder.sk": sk,
        }
        if variant in _FINETUNE:
            # Section 3: 0.005 sqrt(batch), and 0.002 for networks wider or with SK.
            rows[row]["finetune.optimizer.lr"] = 0.002 if width > 1 or sk else 0.005
        if variant in _COLUMNS:
            published[row] = figures[_COLUMNS.index(variant)]
    given = {
        "rows": rows,
        "score": "finetune.pretrained.top1",
        "chart": {
            "kind": "grid",
            "down": ("encoder.depth",),
            "across": ("encoder.width", "encoder.sk"),
        },
    }
    if variant == "linear":
        given["score"] = "probe.pretrained.top1"
    if variant == "supervised":
        given["score"] = "supervised.top1"
    if published:
        given["published"] = published
        given["source"] = "SimCLRv2 with its memory, ImageNet, 800 epochs, table 1"
    return given


def _check(variant: str) -> None:
    if variant not in _VARIANTS:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_VARIANTS)}")
