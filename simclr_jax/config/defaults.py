"""Every field of a recipe, with its default, meaning and source.

A recipe is a file with `get_config()` that starts from this one and changes what
it needs; the command line changes the rest: `--config.optimizer.lr=0.0003`.
"unset" below means a placeholder: the code's own default holds.

`launch.py --help --config=RECIPE` shows a field's comment: the lines right above it and
what follows it on its own line. The lines above a section are the section's.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def optimizer(name: str = "adam", lr: float = 1e-3, **changes) -> Any:
    """The fields of an optimizer; pretraining, probe and fine-tuning have one each."""
    fields: Any = ConfigDict()
    fields.name = name  # adam (decay added to the gradient) | adamw | sgd | lars
    fields.lr = lr  # base learning rate, before scaling
    # none | linear (lr x batch / 256) | sqrt (lr x sqrt(batch)), SimCLR app. B.1
    fields.lr_scaling = "none"
    fields.weight_decay = 0.0  # never on biases and BatchNorm
    fields.warmup_epochs = 0.0  # linear from 0
    # constant | cosine (to 0 at the last step) | step (/ 10 at 60 % and at 80 %, MoCo)
    fields.schedule = "constant"
    fields.momentum = 0.9  # sgd and lars
    fields.nesterov = False  # sgd
    fields.update(changes)
    return fields


def views() -> Any:
    """Augmentation: SimCLR's CIFAR-10 setting (appendix B.9), no blur."""
    fields: Any = ConfigDict()
    fields.size = 32  # pixels of a view's side
    fields.crop_scale = (0.08, 1.0)  # share of the image's area
    fields.crop_ratio = (3 / 4, 4 / 3)  # width / height
    fields.rotation = 0.0  # largest turn to either side, degrees
    fields.shear = 0.0  # largest lean to either side, degrees
    fields.flip = 0.5  # probability
    fields.jitter = 0.8  # probability of the four colour operations together
    # Colour strength s = 0.5: 0.8 x s for three of them, 0.2 x s for hue (appendix A).
    fields.brightness = 0.4
    fields.contrast = 0.4  # strength, as brightness
    fields.saturation = 0.4  # strength, as brightness
    fields.hue = 0.1  # strength, of the whole circle of colours
    fields.grayscale = 0.2  # probability
    fields.blur = 0.0  # probability
    fields.blur_sigma = (0.1, 2.0)  # pixels
    fields.solarize = 0.0  # probability
    fields.solarize_threshold = 0.5  # values above it are inverted; 1: white
    fields.erase = 0.0  # probability of a window to be blackened
    fields.erase_scale = (0.02, 0.33)  # share of the view's area
    return fields


def crop_and_flip() -> Any:
    """Labelled training sees crops and flips only (SimCLRv2, section 3)."""
    fields = views()
    fields.jitter = 0.0
    fields.grayscale = 0.0
    return fields


def second_view() -> Any:
    """An asymmetric second view: what is unset equals the first view's."""
    fields: Any = ConfigDict()
    for name, value in views().items():
        if name != "size":
            setattr(fields, name, placeholder(type(value)))
    return fields


def get_config() -> Any:
    """Every field with its default."""
    config: Any = ConfigDict()
    config.seed = 0  # of weights, augmentation, order of the data and labels drawn
    # What runs, in this order, out of:
    # pretrain knn probe finetune supervised distill report.
    config.stages = ("pretrain", "knn", "probe", "finetune", "supervised", "report")
    # Another workdir, whose encoder knn, probe and finetune use instead.
    config.pretrained = ""

    config.batch_size = 256  # images of a pretraining step; each gives two views
    config.microbatch = 0  # images encoded at a time; 0: the whole batch
    config.epochs = 100  # of pretraining
    config.max_steps = 0  # ends each training stage early; schedules stay. 0: off
    # float32 | bfloat16 | float16 (with a dynamic loss scale): of the encoder.
    # Parameters, BatchNorm statistics, head and loss stay float32.
    config.precision = "float32"
    config.remat = False  # recompute each residual block in the backward pass
    config.log_every = 50  # steps
    # Warn while embedding_std (1: spread over the sphere, 0: one point) is below this.
    config.warn_below_std = 0.1
    config.eval_batch_size = 500  # images per forward pass of an evaluation
    config.tensorboard = False  # write TensorBoard events beside metrics.jsonl

    # The method and its own options; unset: the default in methods/NAME.py, where their
    # meaning is explained. One that the method does not take is refused.
    config.method = _method()
    # The ResNet.
    config.encoder = _encoder()
    # The head behind h, whose output z the loss sees.
    config.projector = _projector()
    # BYOL's predictor: Dense, BatchNorm, ReLU, Dense as wide as z.
    config.predictor = ConfigDict()
    config.predictor.hidden = placeholder(int)  # unset: 4096
    # Of pretraining.
    config.optimizer = optimizer()
    # Of pretraining.
    config.augment = views()
    # An asymmetric second view: what is unset equals the first view's.
    config.augment.second = second_view()
    # The images and labels.
    config.data = _data()
    # The linear probe on frozen features (standardised, computed once).
    config.probe = _probe()
    # Fine-tuning of the whole network, against the same from scratch.
    config.finetune = _finetune()
    # The same network trained on all labels.
    config.supervised = _supervised()
    # A student taught by a fine-tuned network, on the pretraining images (SimCLRv2,
    # section 2). Its baseline is the student on finetune's labels alone.
    config.distill = _distill()
    # The vote of the nearest training images (Wu et al. 2018, arXiv 1805.01978).
    config.knn = _knn()
    # What an interrupted run continues from.
    config.checkpoint = _checkpoint()
    # Published figures to print next to ours.
    config.published = _published()
    return config


def _method() -> Any:
    """The method and what it alone takes."""
    fields: Any = ConfigDict()
    # simclr | moco | byol | the path of a .py file (CONTRIBUTING.md).
    fields.name = "simclr"
    fields.temperature = placeholder(float)  # simclr 0.5, moco 0.2
    # Of the target: moco 0.999, byol 0.996, simclr with a memory 0.999.
    fields.momentum = placeholder(float)
    # simclr: negatives kept from a target, a multiple of 2 x batch_size (SimCLRv2), 0
    fields.memory = placeholder(int)
    fields.mechanism = placeholder(str)  # moco: queue end_to_end memory_bank
    fields.queue_size = placeholder(int)  # moco: negatives, 65536
    fields.bn_groups = placeholder(int)  # moco: BatchNorm by groups, 8
    fields.shuffle = placeholder(bool)  # moco: keys change groups, True
    fields.symmetric = placeholder(bool)  # moco: both directions, False
    fields.bank_momentum = placeholder(float)  # moco, memory_bank: 0.5
    fields.target_init = placeholder(str)  # byol: online | random
    return fields


def _encoder() -> Any:
    """The ResNet."""
    fields: Any = ConfigDict()
    fields.depth = 50  # 10 | 18 | 34 | 50 | 101 | 152 | 200
    fields.width = 1.0  # times 64 channels in the first stage
    fields.sk = False  # selective kernels, ResNet-D stem (SimCLRv2)
    fields.stem = "imagenet"  # imagenet (7x7/2, pool) | cifar (3x3/1)
    # simclr (He kernels, each residual block starts as its shortcut) | torchvision (He
    # kernels) | pytorch (as torch.nn layers start): matters in short trainings, see
    # encoders.INITS.
    fields.init_scheme = "simclr"
    return fields


def _projector() -> Any:
    """The head behind h."""
    fields: Any = ConfigDict()
    fields.layers = 2  # Dense layers; 0: no head, z is h
    fields.hidden = placeholder(int)  # unset: the width of h
    fields.dim = 128  # the width of z
    fields.activation = "relu"  # relu | tanh | leaky_relu | gelu
    fields.norm = True  # BatchNorm after every layer
    fields.last_norm = True  # ... the last included
    return fields


def _data() -> Any:
    """Which images."""
    fields: Any = ConfigDict()
    # A TFDS name | npz (a file of arrays) | folder (of image files) | mnist5k (inside a
    # package, see demo).
    fields.name = "cifar10"
    fields.path = ""  # the file for npz, the folder for folder
    fields.data_dir = ""  # TFDS's folder; "": its default
    fields.download = False  # let TFDS fetch what is missing
    fields.train_split = "train"  # what is trained on
    fields.test_split = "test"  # what every accuracy is of
    fields.pretrain_split = ""  # where it differs from train_split (STL-10)
    fields.limit = 0  # only the first n pretraining images; 0: all
    # Side in pixels at which images are stored once decoded; 0: as they come.
    fields.stored_size = 0
    fields.streaming = False  # tf.data instead of images kept on the device
    fields.device_limit_gb = 4.0  # larger sets stream by themselves
    return fields


def _probe() -> Any:
    """The linear probe."""
    fields: Any = ConfigDict()
    fields.every_epochs = 0  # also kNN and probe while pretraining; 0: never
    fields.online = True  # a classifier trained along, gradient stopped at h
    # The level that the score is of: h | head_1 | ... | z. All are probed anyway, see
    # `layers` in results.json; kNN, fine-tuning and every_epochs stay on h.
    fields.features = "h"
    fields.target = False  # also the target (moco, byol, simclr's memory)
    fields.label_fraction = 1.0  # class-balanced, drawn by the seed
    fields.epochs = 100  # passes over the labelled images
    fields.batch_size = 256  # features of a step
    fields.optimizer = optimizer(lr=1e-2, schedule="cosine")
    return fields


def _finetune() -> Any:
    """Fine-tuning."""
    fields: Any = ConfigDict()
    fields.label_fraction = 0.1  # as the probe's
    # A text file with a file name of the training split (in a folder, or TFDS's feature
    # `file_name`) a line, like 1percent.txt and 10percent.txt of google-research/simclr
    # (imagenet_subsets): these images' labels, and label_fraction is not used. "": none
    fields.label_file = ""
    fields.from_layer = 0  # head layers kept below the classifier; 0: h
    fields.epochs = 60  # passes over the labelled images
    fields.batch_size = 256  # images of a step
    fields.optimizer = optimizer(schedule="cosine")
    # What training from scratch needs is rarely what fine-tuning does: a rate of its
    # own for the baseline; unset: the same.
    fields.scratch_lr = placeholder(float)
    fields.augment = crop_and_flip()
    return fields


def _supervised() -> Any:
    """Training on all labels."""
    fields: Any = ConfigDict()
    fields.epochs = 100  # passes over the labelled images
    fields.batch_size = 256  # images of a step
    fields.optimizer = optimizer(schedule="cosine")
    fields.augment = crop_and_flip()
    return fields


def _distill() -> Any:
    """Distillation (SimCLRv2, section 2)."""
    fields: Any = ConfigDict()
    fields.teacher = ""  # the workdir of the teacher; "": this one
    # finetune | supervised | distill (another workdir's student): what teaches.
    fields.teacher_stage = "finetune"
    # The student; unset: as the section encoder.
    fields.encoder = ConfigDict()
    fields.encoder.depth = placeholder(int)  # as encoder.depth
    fields.encoder.width = placeholder(float)  # as encoder.width
    fields.encoder.sk = placeholder(bool)  # as encoder.sk
    # Of both networks' logits; the paper: 0.1 where they are of one size, 1 where the
    # student is smaller.
    fields.temperature = 1.0
    # w in (1 - w) distillation + w cross-entropy on finetune's labels (equation 3).
    fields.label_weight = 0.0
    fields.label_batch_size = 64  # labelled images added to a batch, if w > 0
    fields.epochs = 100  # passes over the unlabelled images
    fields.batch_size = 256  # unlabelled images
    fields.optimizer = optimizer(schedule="cosine")
    fields.augment = crop_and_flip()
    return fields


def _knn() -> Any:
    """The vote of the nearest."""
    fields: Any = ConfigDict()
    fields.k = 200  # neighbours
    fields.temperature = 0.1  # a neighbour at cosine c has the weight exp(c / T)
    return fields


def _checkpoint() -> Any:
    """How often, and how many."""
    fields: Any = ConfigDict()
    fields.every_steps = 500  # and at the end of every stage
    fields.keep = 2  # newest checkpoints of a stage
    return fields


def _published() -> Any:
    """Other people's figures."""
    fields: Any = ConfigDict()
    fields.source = ""  # who published them, on what
    fields.rows = ()  # (row of the report, top-1, top-3 in percent or None)
    return fields
