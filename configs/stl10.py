"""SimCLR on STL-10: 100,000 images without labels, 5,000 with.

    python launch.py --config=configs/stl10.py --workdir=runs/stl10
    python launch.py --config=configs/stl10.py:batch128 --workdir=runs/stl10_128

Pretrains on the split `unlabelled` (100,000 images of 96x96), trains the probe on
`train` (5,000) and tests it on `test` (8,000). The network is a ResNet-18 with the
ImageNet stem (7x7 with stride 2, then a pool): 96 pixels become 24 before the first
stage and 3 after the last. Needs a GPU. The default has batch 256, `:batch128` 128.
"""

from configs import common

_BATCH = {"batch256": 256, "batch128": 128}


def get_config(variant: str = "batch256"):
    if variant not in _BATCH:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_BATCH)}")
    config = common.get_config()
    config.stages = ("pretrain", "knn", "probe", "report")
    config.batch_size = _BATCH[variant]
    config.epochs = 40
    config.encoder.depth = 18
    config.encoder.stem = "imagenet"
    config.encoder.init_scheme = "pytorch"  # as in the published figures' code
    config.method.temperature = 0.5
    config.optimizer = common.optimizer("adam", 3e-4)
    # SimCLR's ImageNet strengths (appendix A): colour 1.0, blur in half of the views.
    config.augment.brightness = config.augment.contrast = 0.8
    config.augment.saturation = 0.8
    config.augment.hue = 0.2
    config.augment.blur = 0.5
    for stage in (config, config.finetune, config.supervised, config.distill):
        stage.augment.size = 96
    config.data.name = "stl10"
    config.data.pretrain_split = "unlabelled"  # TFDS's spelling
    config.probe.online = False  # there are no labels while pretraining
    config.probe.epochs = 100
    config.probe.every_epochs = 10
    return config
