"""SimCLR on a folder of your own image files.

    python launch.py --config=configs/folder.py --config.data.path=PHOTOS --workdir=...
    python launch.py --config=configs/folder.py:labelled --config.data.path=...

The first command pretrains without labels on every image below PHOTOS and writes a
report with each image's nearest neighbours and a map of all images. `:labelled` expects

    PHOTOS/train/CLASS/*.jpg    PHOTOS/test/CLASS/*.jpg    [PHOTOS/unlabelled/*.jpg]

(Train, TEST, val, valid and validation are understood too.)

It pretrains on `train`, then evaluates: kNN, linear probe, fine-tuning on 10 % of the
labels. `--config.data.pretrain_split=unlabelled` pretrains on images without labels
instead; `--config.data.test_split=val` names another test split.
Where there is none, train[90%:] is cut off as the test split; both parts may be named:
`--config.data.train_split=train[:70%] --config.data.test_split=train[70%:]`.
`--config.data.labels=labels.csv` takes the classes from a table; see docs/photos.md.
`--config.data.skip_damaged=20` goes on without up to 20 damaged files.

Trains a ResNet-18 with the ImageNet stem on views of 128 pixels, and needs a GPU.
Images are stored at 160 pixels (77 kB each; more than 52,000 images are streamed). To
change the size of the views in all stages, set `config.augment.size`; on two CPU cores,
see docs/photos.md. The settings are not tuned. Digits, text and organs must not be
mirrored: add `--config.augment.flip=0.0`.
"""

from configs import common

_STAGES = {
    "unlabelled": ("pretrain", "report", "export"),
    "labelled": ("pretrain", "knn", "probe", "finetune", "report", "export"),
}


def get_config(variant: str = "unlabelled"):
    if variant not in _STAGES:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_STAGES)}")
    config = common.get_config()
    config.stages = _STAGES[variant]
    config.data.name = "folder"
    config.data.stored_size = 160
    config.scores_every_epochs = 5
    config.batch_size = 256
    config.epochs = 100
    config.encoder.depth = 18
    config.encoder.stem = "imagenet"
    config.method.temperature = 0.5
    config.optimizer = common.optimizer("adam", 1e-3)
    config.optimizer.warmup_epochs = 5.0
    config.optimizer.schedule = "cosine"
    # SimCLR's ImageNet strengths (appendix A): colour 1.0, blur in half of the views.
    config.augment.brightness = config.augment.contrast = 0.8
    config.augment.saturation = 0.8
    config.augment.hue = 0.2
    config.augment.blur = 0.5
    config.augment.size = 128
    if variant == "unlabelled":
        config.data.test_split = "train"  # the images that the report shows
        config.probe.online = False
    else:
        # Small batches, because a tenth of a small data set is few images.
        config.finetune.batch_size = 32
        config.probe.batch_size = 64
        config.supervised.batch_size = 64
    return config
