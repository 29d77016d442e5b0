"""The experiment that motivated BYOL: can an encoder learn from a random one?

    python launch.py --config=configs/random_target.py --workdir=runs/random_target
    python launch.py --config=configs/random_target.py:cifar10 --workdir=...

Network A keeps its random initial weights. Network B starts from other random weights
and learns to predict A's projections of the other view. This is BYOL with a separate
target that never moves (arXiv 2006.07733, section 3, and table 5a, tau = 1: on ImageNet
A's probe has 1.4 % and B's 18.8 %). The default (`:cpu`) runs on two CPU cores in the
setting of `configs/cifar10_cpu.py:byol`, `:cifar10` on a GPU in that of
`configs/cifar10.py:byol`. `:imagenet` has the paper's setting of 300 epochs (**not run
here**). The report has three probes:

    linear probe          B, trained
      random encoder      B before its training
      target network      A

A's BatchNorm has the statistics of the views that it saw. B's, before its training,
would be 0 and 1, with which a random encoder has quite other features: its probe scored
11 points more (see `simclr_jax/stages/probe.py`). So `probe.calibrate` gives B the
statistics of training images: of whole images, not of views as A's are.
"""

from configs import cifar10, cifar10_cpu, imagenet

_VARIANTS = ("cpu", "cifar10", "imagenet")


def get_config(variant: str = "cpu"):
    if variant not in _VARIANTS:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_VARIANTS)}")
    if variant == "cpu":
        config = cifar10_cpu.get_config("byol")
    elif variant == "cifar10":
        config = cifar10.get_config("byol")
    else:
        config = imagenet.get_config("byol")
        config.epochs = 300
        config.optimizer.lr = 0.3
        config.optimizer.weight_decay = 1e-6
        config.published.source = "published: BYOL, 300 epochs, batch 4096, tau 1"
        config.published.rows = (
            ("probe pretrained", 18.8, None),
            ("probe target", 1.4, None),
        )
    config.stages = ("pretrain", "knn", "probe", "report", "export")
    config.method.momentum = 1.0
    config.method.target_init = "random"
    config.probe.target = True
    config.probe.calibrate = True
    config.probe.every_epochs = 0
    return config
