"""SimCLR on STL-10: 100,000 images without labels, 5,000 with.

    python launch.py --config=configs/stl10.py --workdir=runs/stl10
    python launch.py --config=configs/stl10.py:batch128 --workdir=runs/stl10_128
    python launch.py --config=configs/stl10.py:published --workdir=runs/stl10_224

Pretrains on the split `unlabelled` (100,000 images of 96x96), trains the probe on
`train` (5,000) and tests it on `test` (8,000). The network is a ResNet-18 with the
ImageNet stem (7x7 with stride 2, then a pool). Needs a GPU. The default has batch 256,
`:batch128` 128. Their views have the images' own 96 pixels, which become 24 before the
first stage and 3 after the last.

`:published` has batch 128 and the setting of github.com/Spijkervet/SimCLR, which seems
to be the code behind the published figures of `configs/small_batch.py`: views of 224
pixels (56 before the first stage, 7 after the last), no blur, a head without BatchNorm
and z of 64. A step computes 5.4 times as many pixels. These differences remain:

- The head's layers have biases; theirs have none.
- BatchNorm normalises both views together; theirs each view by itself.
- Under LARS, biases and BatchNorm have neither decay nor trust ratio; theirs have both.
- Test images lose their margin (the central 87.5 % is enlarged); theirs are enlarged as
  they are.
- The probe trains on standardised features with Adam 1e-2 and a cosine; theirs on raw
  features with Adam 3e-4 at a constant rate. Both have 100 epochs and batch 256.
- A cosine falls with every step; theirs with every epoch.
"""

from configs import common

_BATCH = {"batch256": 256, "batch128": 128, "published": 128}


def get_config(variant: str = "batch256"):
    if variant not in _BATCH:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_BATCH)}")
    config = common.get_config()
    config.stages = ("pretrain", "knn", "probe", "report", "export")
    config.precision = "bfloat16"  # see cifar10.py
    config.batch_size = _BATCH[variant]
    config.epochs = 40
    config.encoder.depth = 18
    config.encoder.stem = "imagenet"
    config.encoder.init_scheme = "torchvision"  # Spijkervet/SimCLR takes its ResNet
    config.method.temperature = 0.5
    config.optimizer = common.optimizer("adam", 3e-4)
    # SimCLR's ImageNet strengths (appendix A): colour 1.0, blur in half of the views.
    config.augment.brightness = config.augment.contrast = 0.8
    config.augment.saturation = 0.8
    config.augment.hue = 0.2
    config.augment.blur = 0.5
    config.augment.size = 96
    if variant == "published":
        config.augment.size = 224
        config.augment.blur = 0.0
        config.projector.norm = False
        config.projector.dim = 64
    config.data.name = "stl10"
    config.data.pretrain_split = "unlabelled"  # TFDS's spelling
    config.probe.online = False  # there are no labels while pretraining
    config.probe.epochs = 100
    config.probe.every_epochs = 10
    return config
