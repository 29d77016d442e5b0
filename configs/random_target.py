"""The experiment that motivated BYOL: can an encoder learn from a random one?

    python launch.py --config=configs/random_target.py --workdir=runs/random_target

Network A keeps its random initial weights. Network B starts from other random weights
and learns to predict A's projections of the other view. This is BYOL with a separate
target that never moves (arXiv 2006.07733, section 3, and table 5a, tau = 1: on ImageNet
A's probe has 1.4 % and B's 18.8 %). It runs on two CPU cores. The report has three
probes:

    linear probe          B, trained
      random encoder      B before its training
      target network      A

A's BatchNorm has the statistics of the views that it saw. B's, before its training,
would be 0 and 1, with which a random encoder has quite other features: its probe scored
11 points more (see `simclr_jax/stages/probe.py`). So `probe.calibrate` gives B the
statistics of training images: of whole images, not of views as A's are.
"""

from configs import cifar10_cpu


def get_config():
    config = cifar10_cpu.get_config("byol")
    config.method.momentum = 1.0
    config.method.target_init = "random"
    config.probe.target = True
    config.probe.calibrate = True
    config.probe.every_epochs = 0
    return config
