"""Every field of a recipe, with its default, meaning and source.

A recipe is a file with a `get_config()` that starts from this one and changes some
fields. The command line changes more: `--config.optimizer.lr=0.0003`. A field that is
"unset" is a placeholder: the code uses its own default.

`launch.py --help --config=RECIPE` shows the comments here. A field's comment is on its
line or right above it; a section's comment is next to the line that makes the section.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

_STAGES = ("pretrain", "knn", "probe", "finetune", "supervised", "report", "export")


def optimizer(name: str = "adam", lr: float = 1e-3, **changes) -> Any:
    """The fields of an optimizer; each trained stage has its own."""
    fields: Any = ConfigDict()
    fields.name = name  # adam (decay added to the gradient) | adamw | sgd | lars
    fields.lr = lr  # base learning rate, before lr_scaling
    # none | linear (lr x batch_size / 256) | sqrt (lr x sqrt(batch_size)); SimCLR,
    # appendix B.1.
    fields.lr_scaling = "none"
    fields.weight_decay = 0.0  # not applied to biases and BatchNorm
    fields.warmup_epochs = 0.0  # the learning rate rises linearly from 0
    # constant | cosine (to 0 at the last step) | step (x 0.1 at 60 % and 80 %, MoCo)
    fields.schedule = "constant"
    fields.momentum = 0.9  # for sgd and lars
    fields.nesterov = False  # for sgd and lars
    fields.update(changes)
    return fields


def views() -> Any:
    """The augmentation that SimCLR uses on CIFAR-10 (appendix B.9): no blur."""
    fields: Any = ConfigDict()
    fields.size = 32  # side of a view, in pixels
    fields.crop_scale = (0.08, 1.0)  # range of the crop's share of the image's area
    fields.crop_ratio = (3 / 4, 4 / 3)  # range of the crop's width / height
    fields.rotation = 0.0  # largest angle to either side, degrees
    fields.shear = 0.0  # largest angle to either side, degrees
    fields.flip = 0.5  # probability of a left-right flip
    fields.jitter = 0.8  # probability of applying the four colour operations
    # Strength. SimCLR (appendix A): 0.8 x s, and 0.2 x s for hue; here s = 0.5.
    fields.brightness = 0.4
    fields.contrast = 0.4  # strength, like brightness
    fields.saturation = 0.4  # strength, like brightness
    fields.hue = 0.1  # strength, as a share of the colour circle
    fields.grayscale = 0.2  # probability
    fields.blur = 0.0  # probability of a Gaussian blur
    fields.blur_sigma = (0.1, 2.0)  # range of its standard deviation, pixels
    fields.solarize = 0.0  # probability
    fields.solarize_threshold = 0.5  # inverts pixels from this up; white is 1
    fields.erase = 0.0  # probability of blackening a random window
    fields.erase_scale = (0.02, 0.33)  # range of the window's share of the view
    return fields


def crop_and_flip() -> Any:
    """Training on labels only crops and flips (SimCLRv2, section 3)."""
    fields = views()
    fields.jitter = 0.0
    fields.grayscale = 0.0
    return fields


def _labelled_views() -> Any:
    """The augmentation of a stage that trains on labels."""
    fields = crop_and_flip()
    # Side of a view, in pixels; unset: as augment.size, pretraining's.
    fields.size = placeholder(int)
    return fields


def second_view() -> Any:
    """The second view's own augmentation; an unset field is as in the first view."""
    fields: Any = ConfigDict()
    for name, value in views().items():
        if name != "size":
            setattr(fields, name, placeholder(type(value)))
    return fields


def get_config() -> Any:
    """Every field with its default."""
    config: Any = _beginning()
    config.seed = 0  # for weights, augmentation, data order, choice of labelled images
    # The stages to run, in this order; choose from:
    # pretrain knn probe finetune supervised distill report embed export.
    config.stages = _STAGES
    config.batch_size = 256  # images per pretraining step; each gives two views
    config.microbatch = 0  # images encoded at a time; 0: the whole batch
    config.epochs = 100  # epochs of pretraining
    config.max_steps = 0  # ends each training at this step; schedules stay. 0: off
    # Of the encoder: float32 | bfloat16 | float16 (with a dynamic loss scale).
    # Parameters, BatchNorm statistics, head and loss stay float32.
    config.precision = "float32"
    config.deterministic = False  # the same bits each time on a GPU too; may be slower
    config.devices = 0  # the first n devices share every batch; 0: all devices
    config.fsdp = False  # split the state's large arrays, if there are several devices
    config.remat = False  # recompute residual blocks in the backward pass: saves memory
    config.log_every = 50  # steps between two lines of metrics.jsonl
    # Warn if embedding_std (1: spread over the sphere, 0: one point) falls below this.
    config.warn_below_std = 0.1
    # Epochs of pretraining between two measurements of RankMe, alignment and
    # uniformity, which need no labels; 0: as often as probe.every_epochs.
    config.scores_every_epochs = 0
    config.eval_batch_size = 500  # images per forward pass in evaluation
    config.update(_loggers())

    # The method and its options. methods/NAME.py explains them and has the defaults of
    # those that are unset. An option that the method does not have is rejected.
    config.method = _method()
    # The ResNet, whose output is h.
    config.encoder = _encoder()
    # The head that turns h into z, which the loss sees.
    config.projector = _projector()
    # The predictor of byol and simsiam: Dense, BatchNorm, ReLU, Dense as wide as z.
    config.predictor = _predictor()
    config.optimizer = optimizer()  # The optimizer of pretraining.
    # The augmentation of pretraining.
    config.augment = views()
    # Changes for the second view; an unset field is as in the first view.
    config.augment.second = second_view()
    config.data = _data()  # The data set.
    # A linear classifier on frozen features, which are computed once.
    config.probe = _probe()
    # Fine-tuning of the whole network, compared with the same trained from scratch.
    config.finetune = _finetune()
    # The same network trained from scratch on all labels.
    config.supervised = _supervised()
    # A fine-tuned network teaches a student on the pretraining images (SimCLRv2,
    # section 2). The baseline is the same student trained on finetune's labels alone.
    config.distill = _distill()
    # A vote of the nearest training images (Wu et al. 2018, arXiv 1805.01978).
    config.knn = _knn()
    config.embed = _embed()  # The features of images, in a file.
    config.export = _export()  # The encoder, in files for others.
    # Checkpoints, from which an interrupted run continues.
    config.checkpoint = _checkpoint()
    # Published figures, printed next to the run's own.
    config.published = _published()
    return config


def _beginning() -> Any:
    """The weights that a run begins with."""
    fields: Any = ConfigDict()
    # Another workdir, whose encoder knn, probe and finetune use; "": this one. In a
    # sweep, {row} and any {FIELD} stand for the point's own: OLD/{row}/seed_{seed}.
    fields.pretrained = ""
    # Weights to begin with: another workdir, an encoder.safetensors, or a file with the
    # names of torchvision's ResNet (.safetensors; .pth or .pt if PyTorch is installed).
    # Pretraining starts there; without it knn, probe and finetune do. The random
    # encoder that they are compared with stays random. "": random weights.
    fields.init_from = ""
    # The weights of init_from want pixels normalised by ImageNet's mean and deviation,
    # as torchvision's and MoCo's do: fold that into the first layer.
    fields.init_normalized = False
    return fields


def _loggers() -> Any:
    """Where the numbers of metrics.jsonl also go."""
    fields: Any = ConfigDict()
    # Any of tensorboard, wandb, mlflow. What W&B and MLflow need to know besides is in
    # their own environment variables, as WANDB_PROJECT and MLFLOW_TRACKING_URI.
    fields.loggers = ()
    fields.tensorboard = False  # the same as "tensorboard" in loggers
    return fields


def _method() -> Any:
    """The method and its options."""
    fields: Any = ConfigDict()
    # simclr | moco | byol | simsiam | barlow_twins | vicreg | the path of a .py file
    # (see docs/adding_a_method.md).
    fields.name = "simclr"
    fields.temperature = placeholder(float)  # defaults: simclr 0.5, moco 0.2
    # Of the target; defaults: moco 0.999, byol 0.996, simclr with a memory 0.999.
    fields.momentum = placeholder(float)
    # simclr: negatives from a target network (SimCLRv2), a multiple of 2 x batch_size;
    # default 0, none.
    fields.memory = placeholder(int)
    # simclr, whether the positive leaves the denominator (DCL, arXiv 2110.06848): False
    # (the default) | True | weighted (DCLW).
    fields.decoupled = placeholder(bool | str)
    # moco: queue | end_to_end | memory_bank; default queue.
    fields.mechanism = placeholder(str)
    fields.queue_size = placeholder(int)  # moco: negatives, default 65536
    fields.bn_groups = placeholder(int)  # moco: BatchNorm groups, default 8
    # moco, how keys change groups: True (in random order, the default) |
    # spread (evenly; no device gets the whole batch) | False (not at all).
    fields.shuffle = placeholder(bool | str)
    # Both directions; defaults: moco False, simsiam True.
    fields.symmetric = placeholder(bool)
    fields.bank_momentum = placeholder(float)  # moco with memory_bank: default 0.5
    fields.target_init = placeholder(str)  # byol: online | random; default online
    # barlow_twins: weight of the correlations off the diagonal; default 0.005.
    fields.redundancy = placeholder(float)
    fields.invariance = placeholder(float)  # vicreg: weight, default 25
    fields.variance = placeholder(float)  # vicreg: weight, default 25
    fields.covariance = placeholder(float)  # vicreg: weight, default 1
    return fields


def _encoder() -> Any:
    """The ResNet."""
    fields: Any = ConfigDict()
    fields.depth = 50  # 10 | 18 | 34 | 50 | 101 | 152 | 200
    fields.width = 1.0  # multiplies the channels; the first stage has 64 x width
    fields.sk = False  # selective kernels and the ResNet-D stem (SimCLRv2)
    fields.stem = "imagenet"  # imagenet (7x7/2, pool) | cifar (3x3/1)
    # simclr (He kernels; each residual block starts as its shortcut) | torchvision (He
    # kernels) | pytorch (the defaults of torch.nn layers). It matters in short
    # trainings, see encoders.INITS.
    fields.init_scheme = "simclr"
    return fields


def _projector() -> Any:
    """The head that turns h into z."""
    fields: Any = ConfigDict()
    fields.layers = 2  # Dense layers; 0: no head, z is h
    fields.hidden = placeholder(int)  # hidden width; unset: the width of h
    fields.dim = 128  # the width of z
    fields.activation = "relu"  # relu | tanh | leaky_relu | gelu | identity
    fields.norm = True  # BatchNorm after each layer
    fields.last_norm = True  # BatchNorm after the last layer too, if norm
    return fields


def _predictor() -> Any:
    """The predictor of byol and simsiam."""
    fields: Any = ConfigDict()
    # Hidden width; unset: byol 4096, simsiam 512.
    fields.hidden = placeholder(int)
    return fields


def _data() -> Any:
    """The data set."""
    fields: Any = ConfigDict()
    # A TFDS name | npz (a file of arrays) | folder (of image files) | mnist5k (comes
    # with a package, see configs/demo.py).
    fields.name = "cifar10"
    # The .npz file; or the folder, or a list of image files below the list's folder: a
    # .txt with one path a line, or a .csv with the columns file and label.
    fields.path = ""
    # A .csv with the columns file and label. Its labels take the place of a folder's
    # class folders; an image without a row has none. "": none.
    fields.labels = ""
    fields.data_dir = ""  # where TFDS keeps its data; "": its default
    fields.download = False  # let TFDS download a data set that is missing
    # Split to train on. train[:90%] is a part of one, with test_split="train[90%:]".
    fields.train_split = "train"
    fields.test_split = "test"  # split that every accuracy is measured on
    fields.pretrain_split = ""  # split to pretrain on (STL-10); "": train_split
    fields.limit = 0  # pretrain on the first n images only; 0: all
    # Side, in pixels, to which decoded images are resized for storage; 0: no resizing.
    fields.stored_size = 0
    fields.streaming = False  # decode each batch anew; keep no images on the device
    fields.device_limit_gb = 4.0  # larger data sets are streamed
    # Leave out up to so many damaged files of a folder; 0: a damaged file ends the run.
    # If it is not 0, the run begins by decoding all files once to find them, and names
    # them in damaged.txt in the workdir.
    fields.skip_damaged = 0
    return fields


def _probe() -> Any:
    """The linear probe."""
    fields: Any = ConfigDict()
    fields.every_epochs = 0  # epochs between kNN and probe in pretraining; 0: never
    fields.online = True  # train a classifier along on h; h gets no gradient from it
    # The level whose score is reported: h | head_1 | ... | z. results.json has the
    # scores of all as `layers`. kNN, fine-tuning and every_epochs always use h.
    fields.features = "h"
    fields.target = False  # also probe the target (moco, byol, simclr with memory)
    fields.label_fraction = 1.0  # share of labels used; class-balanced, by the seed
    fields.epochs = 100  # passes over the labelled images
    fields.batch_size = 256  # feature vectors per step
    fields.optimizer = optimizer(lr=1e-2, schedule="cosine")  # of the linear probe
    # Give each feature mean 0 and standard deviation 1 on the labelled images.
    fields.standardize = True
    # BatchNorm statistics of the untrained encoder from training images; False: 0 and
    # 1, as at initialisation. See simclr_jax/stages/probe.py.
    fields.calibrate = False
    # A second probe of the same features, shown under the first. Its defaults: features
    # as they are, and a slow optimizer, as much published code has it.
    fields.second = _second_probe()
    return fields


def _second_probe() -> Any:
    """The second probe."""
    fields: Any = ConfigDict()
    fields.run = False  # train it
    fields.standardize = False  # as probe.standardize
    fields.epochs = 50  # passes over the labelled images
    fields.batch_size = 256  # feature vectors per step
    # Of the second probe.
    fields.optimizer = optimizer(weight_decay=1e-5)
    return fields


def _finetune() -> Any:
    """Fine-tuning."""
    fields: Any = ConfigDict()
    # Epochs of pretraining between two fine-tunings of the network of that moment; the
    # report then shows their accuracy over the epochs. 0: never. Each costs as much
    # time as the pretrained half of the stage, and memory for a second network and
    # optimizer next to the pretraining's. The state is saved before each.
    fields.every_epochs = 0
    fields.label_fraction = 0.1  # as probe.label_fraction; the same images if equal
    # A text file with one file name of the training split per line (its name in a
    # folder, or TFDS's feature `file_name`), like 1percent.txt and 10percent.txt of
    # google-research/simclr (imagenet_subsets). Then only these images' labels are used
    # and label_fraction is not. "": none.
    fields.label_file = ""
    fields.from_layer = 0  # projector layers kept under the classifier; 0: none
    fields.epochs = 60  # passes over the labelled images
    fields.batch_size = 256  # images per step
    fields.optimizer = optimizer(schedule="cosine")  # of fine-tuning and its baseline
    # Learning rate of the baseline, which is trained from scratch and often needs
    # another one; unset: optimizer.lr.
    fields.scratch_lr = placeholder(float)
    fields.augment = _labelled_views()  # of fine-tuning and its baseline
    return fields


def _supervised() -> Any:
    """Training from scratch on all labels."""
    fields: Any = ConfigDict()
    fields.epochs = 100  # passes over the labelled images
    fields.batch_size = 256  # images per step
    fields.optimizer = optimizer(schedule="cosine")  # of supervised training
    fields.augment = _labelled_views()  # of supervised training
    return fields


def _distill() -> Any:
    """Distillation (SimCLRv2, section 2)."""
    fields: Any = ConfigDict()
    fields.teacher = ""  # the teacher's workdir; "": this one
    # The stage that trained it: finetune | supervised | distill (another workdir's
    # student).
    fields.teacher_stage = "finetune"
    # The student's ResNet; an unset field is as in the section encoder.
    fields.encoder = ConfigDict()
    fields.encoder.depth = placeholder(int)  # as encoder.depth
    fields.encoder.width = placeholder(float)  # as encoder.width
    fields.encoder.sk = placeholder(bool)  # as encoder.sk
    # Of both networks' logits. SimCLRv2 uses 0.1 if they have the same size, and 1 if
    # the student is smaller.
    fields.temperature = 1.0
    # w of (1 - w) distillation + w cross-entropy on finetune's labels (equation 3).
    fields.label_weight = 0.0
    fields.label_batch_size = 64  # labelled images added to each batch if w > 0
    fields.epochs = 100  # passes over the unlabelled images
    fields.batch_size = 256  # unlabelled images per step
    fields.optimizer = optimizer(schedule="cosine")  # of distillation
    fields.augment = _labelled_views()  # of distillation
    return fields


def _knn() -> Any:
    """The k nearest neighbours."""
    fields: Any = ConfigDict()
    fields.k = 200  # number of neighbours
    fields.temperature = 0.1  # T: a neighbour at cosine c has the weight exp(c / T)
    return fields


def _embed() -> Any:
    """What stage embed writes."""
    fields: Any = ConfigDict()
    # A folder, an image file or an .npz with `images`, in place of the data set's
    # training and test split; "": these.
    fields.images = ""
    fields.level = "h"  # h | head_1 | ... | z
    fields.format = "npz"  # npz | parquet
    return fields


def _export() -> Any:
    """What stage export writes."""
    fields: Any = ConfigDict()
    # Any of safetensors (encoder.safetensors, for simclr_jax.load), torch
    # (torchvision.safetensors, torchvision's names), onnx (encoder.onnx) and jax
    # (encoder.jax, for jax.export).
    fields.formats = ("safetensors",)
    # onnx and jax take uint8 images as the run stored them; False: floats in [0, 1] of
    # the size that the network sees.
    fields.preprocessing = True
    return fields


def _checkpoint() -> Any:
    """How often to save, and how many to keep."""
    fields: Any = ConfigDict()
    fields.every_steps = 500  # save this often, and at the end of each stage
    fields.keep = 2  # newest checkpoints kept per stage
    return fields


def _published() -> Any:
    """Published figures."""
    fields: Any = ConfigDict()
    fields.source = ""  # their source and setting, as the report prints it
    # ((row of the report, top-1, top-3[, top-5]), ...), in percent or None
    fields.rows = ()
    return fields
