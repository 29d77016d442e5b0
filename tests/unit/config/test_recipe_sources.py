"""The recipes' numbers are those of the sources that they name.

Sources: SimCLR (arXiv 2002.05709) and google-research/simclr at 383d414; SimCLRv2
(2006.10029); facebookresearch/moco, branch colab-notebook; dkobak/simclr-cifar10 at
44b2500; lightly's cifar10_benchmark.py; Spijkervet/SimCLR; google-research/simclr,
issues 77 and 166.
"""

from pathlib import Path

import pytest

from simclr_jax.config import recipes
from simclr_jax.config.fields import flatten
from simclr_jax.sweep.recipe import load as load_sweep

CONFIGS = Path(__file__).parents[3] / "configs"


def fields(name):
    file, colon, variant = name.partition(":")
    return dict(flatten(recipes.load(f"{CONFIGS}/{file}.py{colon}{variant}")))


def sweep(name):
    file, colon, variant = name.partition(":")
    return load_sweep(f"{CONFIGS}/{file}.py{colon}{variant}")


# SimCLR, appendix A, and data_util.py at strength 0.5: its CIFAR-10 command.
SIMCLR_VIEWS = {
    "augment.crop_scale": (0.08, 1.0),
    "augment.crop_ratio": (3 / 4, 4 / 3),
    "augment.flip": 0.5,
    "augment.jitter": 0.8,
    "augment.brightness": 0.8 * 0.5,
    "augment.contrast": 0.8 * 0.5,
    "augment.saturation": 0.8 * 0.5,
    "augment.hue": 0.2 * 0.5,
    "augment.grayscale": 0.2,
    "augment.blur": 0.0,
    "augment.solarize": 0.0,
}
# The author in issue 166; decay and warm-up of his CIFAR-10 command and flags.
ISSUE_166 = {
    **SIMCLR_VIEWS,
    "encoder.depth": 18,
    "encoder.stem": "cifar",
    "encoder.init_scheme": "simclr",  # resnet.py: the last gamma of a block is 0
    "method.temperature": 0.2,
    "projector.layers": 2,
    "projector.hidden": None,  # as wide as h
    "projector.dim": 64,
    "projector.norm": True,
    "optimizer.name": "lars",
    "optimizer.lr": 0.2,
    "optimizer.lr_scaling": "sqrt",
    "optimizer.weight_decay": 1e-4,
    "optimizer.warmup_epochs": 10.0,
    "optimizer.schedule": "cosine",
}
SPIJKERVET = {  # config.yaml and modules/
    "augment.size": 224,
    "augment.crop_scale": (0.08, 1.0),
    "augment.brightness": 0.8,
    "augment.contrast": 0.8,
    "augment.saturation": 0.8,
    "augment.hue": 0.2,
    "augment.jitter": 0.8,
    "augment.grayscale": 0.2,
    "augment.blur": 0.0,
    "augment.second.blur": None,
    "encoder.stem": "imagenet",
    "encoder.init_scheme": "torchvision",
    "method.temperature": 0.5,
    "projector.layers": 2,
    "projector.dim": 64,
    "projector.norm": False,
    "batch_size": 128,
    "epochs": 40,
    "optimizer.name": "adam",
    "optimizer.lr": 3e-4,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.schedule": "constant",
    "data.pretrain_split": "unlabelled",
    "probe.epochs": 100,
    "probe.batch_size": 256,
}
SOURCES = {
    "cifar10:resnet18": {  # dkobak
        "augment.crop_scale": (0.2, 1.0),
        "augment.jitter": 0.8,
        "augment.brightness": 0.4,
        "augment.hue": 0.1,
        "augment.grayscale": 0.1,
        "augment.blur": 0.0,
        "encoder.init_scheme": "torchvision",
        "method.temperature": 0.5,
        "projector.hidden": 1024,
        "projector.dim": 128,
        "projector.norm": False,
        "batch_size": 512,
        "epochs": 100,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.06,
        "optimizer.lr_scaling": "linear",
        "optimizer.weight_decay": 5e-4,
        "optimizer.schedule": "cosine",
        "knn.k": 10,
    },
    "cifar10:moco": {  # colab-notebook
        "augment.crop_scale": (0.08, 1.0),
        "augment.jitter": 0.8,
        "augment.grayscale": 0.2,
        "augment.blur": 0.0,
        "encoder.init_scheme": "torchvision",
        "method.temperature": 0.1,
        "method.momentum": 0.99,
        "method.queue_size": 4096,
        "method.bn_groups": 8,
        "epochs": 200,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.06 * 256 / 512,
        "optimizer.lr_scaling": "linear",
        "optimizer.weight_decay": 5e-4,
        "optimizer.schedule": "cosine",
        "knn.k": 200,
        "knn.temperature": 0.1,
    },
    "cifar10:byol": {  # lightly, whose loss is a quarter of the paper's
        "encoder.init_scheme": "pytorch",
        "epochs": 200,
        "projector.hidden": 1024,
        "projector.dim": 256,
        "projector.last_norm": False,
        "predictor.hidden": 1024,
        "optimizer.lr": 0.06 * 256 / 128 / 4,
        "optimizer.lr_scaling": "linear",
        "optimizer.weight_decay": 5e-4 * 4,
    },
    "batch_epochs": ISSUE_166,
    "head_depth": ISSUE_166,
    "stl10:published": SPIJKERVET,
    "small_batch": SPIJKERVET,
    "stl10": {"encoder.init_scheme": "torchvision", "augment.size": 96},
    "imagenet": {  # SimCLR, section 2.2 and appendices A, B.5, B.6
        "augment.crop_scale": (0.08, 1.0),
        "augment.brightness": 0.8,
        "augment.contrast": 0.8,
        "augment.saturation": 0.8,
        "augment.hue": 0.2,
        "augment.blur": 0.5,
        "augment.blur_sigma": (0.1, 2.0),
        "encoder.init_scheme": "simclr",
        "method.temperature": 0.1,
        "projector.layers": 2,
        "projector.dim": 128,
        "batch_size": 4096,
        "epochs": 100,
        "optimizer.lr": 0.3,
        "optimizer.lr_scaling": "linear",
        "optimizer.weight_decay": 1e-6,
        "optimizer.warmup_epochs": 10.0,
        "finetune.optimizer.lr": 0.05,
        "finetune.optimizer.lr_scaling": "linear",
        "published.rows": (("probe pretrained", 64.6, None),),  # table B.1, linear
    },
    "simclrv2": {
        # Issue 77: without the memory, which the recipe leaves out. Table 1: with it.
        "published.rows": (
            ("probe pretrained", 71.1, None),
            ("finetune pretrained", 57.9, None),
        ),
        "method.memory": None,
    },
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_recipe_has_its_sources_numbers(name):
    found, expected = fields(name), SOURCES[name]
    assert {path: found[path] for path in expected} == expected


def changes(one, other):
    one, other = fields(one), fields(other)
    return {path: one[path] for path in one if one[path] != other[path]}


def test_the_linear_head_is_the_only_change_of_its_variant():
    assert changes("cifar10:linear_head", "cifar10") == {"projector.layers": 1}


def test_the_small_batch_study_trains_as_stl10_published():
    assert changes("small_batch", "stl10:published") == {
        "stages": ("pretrain", "probe", "report"),
        "probe.every_epochs": 0,
    }


CPU = {"demo", "folder:unlabelled", "folder:labelled", "moco_mechanisms"}
CPU |= {"cifar10_cpu:simclr", "cifar10_cpu:moco", "cifar10_cpu:byol"}
CPU |= {"random_target", "simclrv2:cpu", "small_batch:cpu"}
CPU |= {"augmentations:cpu", "batch_epochs:cpu", "head_depth:cpu"}


def test_recipes_for_a_gpu_are_in_bfloat16_and_no_others():
    """A CPU computes in bfloat16 no faster; folder.py is for any machine."""
    shipped = list(recipes.shipped(CONFIGS))
    names = [
        f"{recipe.path.stem}:{variant}".rstrip(":")
        for recipe in shipped
        for variant in recipe.variants or ("",)
    ]
    found = {name: fields(name)["precision"] for name in names}
    assert set(names) >= CPU
    assert {name for name in names if found[name] == "float32"} == CPU
    assert set(found.values()) == {"float32", "bfloat16"}


@pytest.mark.parametrize("name", ["augmentations", "augmentations:cpu"])
def test_only_the_operation_crop_flips(name):
    """SimCLR, section 3.1: "cropping and resizing (with horizontal flipping)"."""
    assert fields(name)["augment.flip"] == 0.0
    for row, changed in sweep(name).rows.items():
        assert changed.get("augment.flip", 0.0) == (0.5 if "crop" in row else 0.0)
        assert ("augment.crop_scale" in changed) == ("crop" in row)


def test_the_largest_network_is_fine_tuned_at_its_own_rate():
    """SimCLRv2, section 3: 0.064 at batch 1024 for width above 1 or SK."""
    text = (CONFIGS / "simclrv2.py").read_text()
    command = text[text.index("--config.encoder.depth=152") :].partition("\n\n")[0]
    assert "--config.finetune.optimizer.lr=0.002" in command
