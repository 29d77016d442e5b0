"""ImageNet with a ResNet-50, as in the papers: SimCLR, MoCo v1 and v2, BYOL.

    python launch.py --config=configs/imagenet.py --workdir=runs/imagenet \\
        --config.data.data_dir=TFDS
    python launch.py --config=configs/imagenet.py:byol --workdir=runs/byol
    ... --config.finetune.label_fraction=0.01 --config.finetune.epochs=60
    ... --config.finetune.label_file=10percent.txt

Variants: simclr (the default), moco (v2), moco_v1, byol. Each is pretrained, probed and
fine-tuned on 10 % of the labels (the third line: on 1 %; the fourth: on the 10 % that
google-research/simclr lists in imagenet_subsets). **Not run here**: a run needs the
time of many GPUs. `microbatch` computes the large batches piece by piece, with
BatchNorm per piece, while the papers normalise over the images of all devices.

Other differences from the papers:

- Images are stored as their central square at 256 pixels (`data.stored_size`) and
  stream through tf.data. So crops never see what lies outside the square, and small
  crops are enlarged. Pixels are in [0, 1], not standardised.
- SimCLR's loss is the paper's L, while Google's code minimises 2 L. So under LARS the
  same decay weighs twice as much against the gradient, and parameters without a trust
  ratio (BatchNorm, biases) take half the step. The decay here is the paper's 1e-6; with
  L, 5e-7 would make the step that Google's code makes with 1e-6. The authors' command
  (google-research/simclr, README) has 1e-4.
- Brightness multiplies by a factor, as in SimCLRv2's code and in MoCo's. SimCLR
  (appendix A) and BYOL (appendix B) add a shift.
- MoCo's weight decay reaches kernels only; in its code it reaches all parameters.
- The probe is a logistic regression on standardised features of centre crops, without
  augmentation. The papers' learning rates are for raw features and do not carry over;
  the rates here are untuned. For MoCo, the probe here has rate 0.1 and Nesterov's
  momentum; MoCo's code (main_lincls.py) has rate 30 and plain momentum, on crops.
- SimCLR is fine-tuned with batch 256 at rate 0.05. The paper (appendix B.5) has batch
  4096 at rate 0.8: the same rule, a sixteenth of the steps, BatchNorm over more images.
- BYOL's fine-tuning has one fixed rate; its paper chose among five on held-out images.
"""

from configs import common


def get_config(variant: str = "simclr"):
    variants = {"simclr": _simclr, "moco": _moco, "moco_v1": _moco_v1, "byol": _byol}
    if variant not in variants:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(variants)}")
    config = common.get_config()
    config.stages = ("pretrain", "knn", "probe", "finetune", "report", "export")
    config.encoder.depth = 50
    config.encoder.stem = "imagenet"
    config.precision = "bfloat16"  # see cifar10.py
    config.data.name = "imagenet2012"
    config.data.test_split = "validation"
    config.data.stored_size = 256
    config.augment.size = 224
    # SimCLR, appendix B.5: Nesterov 0.05 x B / 256, no decay, no warm-up, 30 epochs for
    # 10 % of the labels, 60 for 1 %. Its batch is 4096; 256 is ours.
    config.finetune.label_fraction = 0.1
    config.finetune.epochs = 30
    config.finetune.batch_size = 256
    config.finetune.optimizer = common.optimizer(
        "sgd", 0.05, lr_scaling="linear", nesterov=True, schedule="cosine"
    )
    config.log_every = 100
    config.checkpoint.every_steps = 1000
    return variants[variant](config)


def _simclr(config):
    # arXiv 2002.05709, section 2.2, appendix B.6 (probe); published: table B.1, the
    # column of linear scaling. In its code, rate and decay belong to a loss of 2 L, see
    # above.
    config.batch_size = 4096
    config.microbatch = 256
    config.epochs = 100
    config.method.temperature = 0.1
    config.projector.dim = 128
    config.optimizer = _lars(0.3, 1e-6)
    config.augment.brightness = config.augment.contrast = 0.8
    config.augment.saturation = 0.8
    config.augment.hue = 0.2
    config.augment.blur = 0.5
    _probe(config, epochs=90, batch_size=4096)
    config.published.source = "published: SimCLR, 100 epochs, batch 4096"
    config.published.rows = (("probe pretrained", 64.6, None),)
    return config


def _moco(config):
    # MoCo v2, arXiv 2003.04297: MLP head, T 0.2, cosine, crops from 0.2, blur.
    _moco_common(config)
    config.method.temperature = 0.2
    config.projector.layers = 2
    config.projector.hidden = 2048
    config.optimizer.schedule = "cosine"
    config.augment.hue = 0.1
    config.augment.blur = 0.5
    config.published.source = "published: MoCo v2, 200 epochs, batch 256"
    config.published.rows = (("probe pretrained", 67.5, None),)
    return config


def _moco_v1(config):
    # arXiv 1911.05722, sections 3.3 and 4: a linear head, T 0.07, steps.
    _moco_common(config)
    config.method.temperature = 0.07
    config.projector.layers = 1
    config.optimizer.schedule = "step"
    # facebookresearch/moco: grayscale 0.2, and a jitter that is always applied.
    config.augment.jitter = 1.0
    config.augment.hue = 0.4
    config.published.source = "published: MoCo v1, 200 epochs, batch 256"
    config.published.rows = (("probe pretrained", 60.8, None),)
    return config


def _moco_common(config):
    config.method.name = "moco"
    config.batch_size = 256
    config.epochs = 200
    config.method.momentum = 0.999
    config.method.queue_size = 65_536
    config.method.bn_groups = 8  # 8 GPUs
    # The paper's order is random, for which 8 GPUs would exchange the whole batch.
    config.method.shuffle = "spread"
    config.projector.dim = 128
    config.projector.norm = False
    config.optimizer = common.optimizer(
        "sgd", 0.03, lr_scaling="linear", weight_decay=1e-4
    )
    config.augment.crop_scale = (0.2, 1.0)
    config.encoder.init_scheme = "torchvision"
    # The paper divides the probe's rate, initially 30, by ten at epochs 60 and 80 of
    # 100. It does not fine-tune on few labels; these settings are SimCLR's.
    _probe(config, epochs=100, batch_size=256, schedule="step")


def _byol(config):
    # arXiv 2006.07733, section 3, and deepmind-research/byol, for 1,000 epochs. For 300
    # epochs they have rate 0.3, decay 1e-6 and momentum 0.99.
    config.method.name = "byol"
    config.batch_size = 4096
    config.microbatch = 256
    config.epochs = 1000
    config.method.momentum = 0.996
    config.projector.layers = 2
    config.projector.hidden = 4096
    config.projector.dim = 256
    config.projector.last_norm = False
    config.predictor.hidden = 4096
    config.optimizer = _lars(0.2, 1.5e-6)
    config.augment.saturation = 0.2
    config.augment.blur = 1.0
    config.augment.second.blur = 0.1
    config.augment.second.solarize = 0.2
    _probe(config, epochs=80, batch_size=1024)
    # Batch 1024, Nesterov, no decay, 30 or 50 epochs and a rate out of 0.005 to 0.1,
    # both chosen on held-out training images (paper, appendix on semi-supervised).
    config.finetune.batch_size = 1024
    config.finetune.epochs = 50
    config.finetune.optimizer.lr_scaling = "none"
    config.published.source = (
        "published: BYOL, 1000 epochs, batch 4096; fine-tuned on 10 % of the labels"
    )
    config.published.rows = (
        ("probe pretrained", 74.3, None),
        ("finetune pretrained", 68.8, None),
    )
    return config


def _lars(lr: float, weight_decay: float):
    return common.optimizer(
        "lars",
        lr,
        lr_scaling="linear",
        weight_decay=weight_decay,
        warmup_epochs=10.0,
        schedule="cosine",
    )


def _probe(config, epochs: int, batch_size: int, schedule: str = "cosine") -> None:
    config.probe.epochs = epochs
    config.probe.batch_size = batch_size
    config.probe.optimizer = common.optimizer(
        "sgd", 0.1, lr_scaling="linear", nesterov=True, schedule=schedule
    )
