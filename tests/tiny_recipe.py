"""A recipe of seconds for the end-to-end tests."""

from configs import common


def get_config():
    config = common.get_config()
    config.data.name = "npz"
    config.encoder.depth = 10
    config.encoder.width = 0.0625
    config.encoder.stem = "cifar"
    config.projector.dim = 16
    config.devices = 1  # the tests' own process has two
    config.batch_size = 16
    config.epochs = 5  # 20 steps
    config.log_every = 2
    config.eval_batch_size = 32
    config.probe.every_epochs = 2
    config.probe.batch_size = 16
    config.probe.epochs = 10
    config.finetune.label_fraction = 0.5
    config.finetune.batch_size = 16
    config.finetune.epochs = 3
    config.finetune.scratch_lr = 2e-3
    config.supervised.batch_size = 16
    config.supervised.epochs = 2
    config.knn.k = 5
    for fields in (config.augment, config.finetune.augment, config.supervised.augment):
        fields.size = 16
    config.checkpoint.every_steps = 10  # a save takes as long as many steps
    return config
