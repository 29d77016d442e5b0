"""How deep should the head be, and from which of its layers should one fine-tune?

    python launch.py --config=configs/simclrv2_heads.py --workdir=runs/heads --sweep
    python launch.py --config=configs/simclrv2_heads.py:cpu --workdir=... --sweep

SimCLRv2 (arXiv 2006.10029) pretrains with heads of 2, 3 and 4 layers and fine-tunes
from each layer; 0 is h, the last is z. The paper chooses three layers and fine-tunes
from the first. It has figures for this, but no table. The default trains a ResNet-18 on
CIFAR-10 in the setting of `configs/simclrv2.py:cifar10` and fine-tunes it on 1 % of the
labels. `:imagenet` has the paper's setting (**not run here**), `:cpu` that of
`configs/simclrv2.py:cpu`. For other shares of the labels:

    ... --config.finetune.label_fraction=0.1 --config.finetune.epochs=30

Every row pretrains. Rows with the same head pretrain the same way. To do that once:

    for n in 2 3 4; do python launch.py --config=configs/simclrv2_heads.py \\
        --workdir=runs/pretrained/$n/0 --config.projector.layers=$n \\
        --config.stages="('pretrain',)"; done
    python launch.py --config=configs/simclrv2_heads.py --workdir=runs/heads --sweep \\
        --seeds=0 --config.stages="('finetune',)" \\
        --config.pretrained='runs/pretrained/{projector.layers}/{seed}'
"""

from configs import common, simclrv2

_VARIANTS = ("cifar10", "cpu", "imagenet")


def get_config(variant: str = "cifar10"):
    if variant not in _VARIANTS:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_VARIANTS)}")
    config = simclrv2.get_config(variant)
    config.published = common.get_config().published  # of one head
    config.stages = ("pretrain", "finetune")
    config.probe.every_epochs = 0
    if variant == "cifar10":
        config.encoder.depth = 18
    return config


def sweep():
    return {
        "rows": {
            f"{layers}-layers-from-{layer}": {
                "projector.layers": layers,
                "finetune.from_layer": layer,
            }
            for layers in (2, 3, 4)
            for layer in range(layers + 1)
        },
        "baseline": "3-layers-from-1",
        "score": "finetune.pretrained.top1",
        "chart": {
            "kind": "grid",
            "down": ("projector.layers",),
            "across": ("finetune.from_layer",),
        },
    }
