"""CIFAR-10 on two CPU cores: the project's reference experiment.

    python launch.py --config=configs/cifar10_cpu.py --workdir=runs/cifar10_cpu
    python launch.py --config=configs/cifar10_cpu.py:byol --workdir=runs/byol_cpu
    python launch.py --config=configs/cifar10_cpu.py:barlow --workdir=runs/barlow_cpu

Trains a ResNet-18 of a quarter width on the first 10,000 training images, for 30 epochs
of SimCLR, `:moco` (v2), `:byol`, `:simsiam`, `:barlow` (Barlow Twins), `:vicreg` or
`:dcl` (decoupled SimCLR). The last four have not run at this length. kNN and a logistic
probe use the same images with their labels, and are tested on the whole test split.
`benchmarks/results/` holds the dated results.
"""

from configs import common


def get_config(variant: str = "simclr"):
    variants = {
        "simclr": _simclr,
        "moco": _moco,
        "byol": _byol,
        "simsiam": _simsiam,
        "barlow": _barlow,
        "vicreg": _vicreg,
        "dcl": _dcl,
    }
    if variant not in variants:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(variants)}")
    config = common.get_config()
    config.stages = ("pretrain", "knn", "probe", "report", "export")
    config.batch_size = 256
    config.epochs = 30
    config.log_every = 10
    config.encoder.depth = 18
    config.encoder.width = 0.25
    config.encoder.stem = "cifar"
    # In 1,170 steps of 1e-3 a block whose last gamma starts at 0 hardly contributes.
    config.encoder.init_scheme = "pytorch"
    config.projector.layers = 2
    config.projector.hidden = 128
    config.projector.dim = 128
    config.optimizer = common.optimizer("adam", 1e-3)
    config.data.name = "cifar10"
    config.data.limit = 10_000
    config.probe.every_epochs = 10
    # Decay 1 / 10,000 on the mean loss equals scikit-learn's C = 1 on the summed one.
    config.probe.optimizer = common.optimizer(
        "adam", 1e-2, weight_decay=1e-4, schedule="cosine"
    )
    config.checkpoint.every_steps = 100
    return variants[variant](config)


def _simclr(config):
    config.method.temperature = 0.5
    return config


def _moco(config):
    # The authors' CIFAR-10 settings (facebookresearch/moco, branch colab-notebook),
    # except for Adam, the initialisation, a head of two layers and a queue of 1,024. A
    # queue of 4,096 would hold keys of 41 % of these images, and 9 % of the queries
    # would meet a key of their own image among the negatives.
    config.method.name = "moco"
    config.method.temperature = 0.1
    config.method.momentum = 0.99
    config.method.queue_size = 1024
    config.projector.norm = False
    return config


def _byol(config):
    # The head is a quarter as wide as the paper's, as the encoder is.
    config.method.name = "byol"
    config.method.momentum = 0.97
    config.projector.hidden = 1024
    config.projector.last_norm = False
    config.predictor.hidden = 1024
    return config


def _simsiam(config):
    # Head and predictor are a quarter as wide as in configs/cifar10.py:simsiam.
    config.method.name = "simsiam"
    config.projector.hidden = 512
    config.projector.dim = 512
    config.predictor.hidden = 128
    return config


def _barlow(config):
    # The head is a quarter as wide as in configs/cifar10.py:barlow.
    config.method.name = "barlow_twins"
    config.method.redundancy = 5e-3
    config.projector.hidden = 512
    config.projector.dim = 512
    config.projector.last_norm = False
    return config


def _vicreg(config):
    # The head is a quarter as wide as in configs/cifar10.py:vicreg.
    config.method.name = "vicreg"
    config.projector.layers = 3
    config.projector.hidden = 512
    config.projector.dim = 512
    config.projector.last_norm = False
    return config


def _dcl(config):
    # SimCLR's recipe with one change.
    config = _simclr(config)
    config.method.decoupled = True
    return config
