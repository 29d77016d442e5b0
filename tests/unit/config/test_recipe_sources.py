"""The recipes' numbers are those of the sources that they name.

Sources: SimCLR (arXiv 2002.05709) and google-research/simclr at 383d414; SimCLRv2
(2006.10029); facebookresearch/moco, branch colab-notebook; dkobak/simclr-cifar10 at
44b2500; lightly's cifar10_benchmark.py at 0351a52 and benchmarks.rst at 0243660;
vturrisi/solo-learn at 9187ea3; Spijkervet/SimCLR; google-research/simclr,
issues 77 and 166.
"""

import math
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
LIGHTLY = {  # cifar10_benchmark.py and benchmarks.rst
    **SIMCLR_VIEWS,
    "encoder.depth": 18,
    "encoder.stem": "cifar",
    "encoder.init_scheme": "pytorch",
    "projector.layers": 2,
    "batch_size": 128,
    "epochs": 200,
    "optimizer.name": "sgd",
    "optimizer.lr_scaling": "linear",
    "optimizer.weight_decay": 5e-4,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.schedule": "cosine",
    "knn.k": 200,
    "knn.temperature": 0.1,
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
    "cifar10:simsiam": {  # lightly, whose loss is the paper's
        **LIGHTLY,
        "optimizer.lr": 0.06,
        "optimizer.lr_scaling": "none",
        "projector.last_norm": True,
        "projector.hidden": 2048,
        "projector.dim": 2048,
        "predictor.hidden": 512,
        "published.rows": (("knn", 81.9, None),),
    },
    "cifar10:barlow": {
        **LIGHTLY,
        "optimizer.lr": 0.06 * 256 / 128,
        "projector.last_norm": False,
        "projector.hidden": 2048,
        "projector.dim": 2048,
        "published.rows": (("knn", 84.2, None),),
    },
    "cifar10:dcl": {
        **LIGHTLY,
        "optimizer.lr": 0.06 * 256 / 128,
        "method.temperature": 0.1,
        "projector.hidden": 512,
        "projector.dim": 128,
        "published.rows": (("knn", 84.4, None),),
    },
    "cifar10:vicreg": {  # solo-learn
        "augment.crop_scale": (0.2, 1.0),
        "augment.brightness": 0.4,
        "augment.contrast": 0.4,
        "augment.saturation": 0.2,
        "augment.hue": 0.1,
        "augment.jitter": 0.8,
        "augment.grayscale": 0.2,
        "augment.blur": 0.0,
        "augment.solarize": 0.1,
        "method.invariance": 25.0,
        "method.variance": 25.0,
        "method.covariance": 1.0,
        "projector.layers": 3,
        "projector.hidden": 2048,
        "projector.dim": 2048,
        "batch_size": 256,
        "epochs": 1000,
        "optimizer.weight_decay": 1e-4,
        "published.rows": (("probe pretrained", 92.07, None),),
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
        "stages": ("pretrain", "probe", "report", "export"),
        "probe.every_epochs": 0,
    }


CPU = {"demo", "folder:unlabelled", "folder:labelled", "moco_mechanisms:cpu"}
CPU |= {"cifar10_cpu:simclr", "cifar10_cpu:moco", "cifar10_cpu:byol"}
CPU |= {"random_target:cpu", "simclrv2:cpu", "simclrv2_heads:cpu", "small_batch:cpu"}
CPU |= {"augmentations:cpu", "batch_epochs:cpu", "head_depth:cpu"}
CPU |= {"cifar10_cpu:simsiam", "cifar10_cpu:barlow", "cifar10_cpu:vicreg"}
CPU |= {"cifar10_cpu:dcl", "small_batch:beyond_cpu"}


def test_recipes_for_a_gpu_are_in_bfloat16_and_no_others():
    """A CPU computes in bfloat16 no faster; folder.py is for any machine."""
    shipped = list(recipes.shipped())
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


def test_larger_networks_are_fine_tuned_at_a_lower_rate():
    """SimCLRv2, section 3: batch 1024; 0.16, and 0.064 for width above 1 or SK."""
    base = fields("simclrv2_networks:1percent")
    assert base["finetune.batch_size"] == 1024
    assert base["finetune.optimizer.lr_scaling"] == "sqrt"
    for variant in ("1percent", "10percent", "100percent"):
        for row in sweep(f"simclrv2_networks:{variant}").rows.values():
            larger = row["encoder.width"] > 1 or row["encoder.sk"]
            rate = row["finetune.optimizer.lr"] * math.sqrt(1024)
            assert rate == pytest.approx(0.064 if larger else 0.16)
    # The recipe's own command for the largest network has it too.
    text = (CONFIGS / "simclrv2.py").read_text()
    command = text[text.index("--config.encoder.depth=152") :].partition("\n\n")[0]
    assert "--config.finetune.optimizer.lr=0.002" in command


# google-research/simclr, README: the first, the fourth and the last row of its table.
TABLE = {
    "resnet50-1x": (57.9, 68.4, 76.3, 71.7, 76.6),
    "resnet50-2x-sk": (70.6, 77.0, 81.3, 77.7, 79.3),
    "resnet152-3x-sk": (74.9, 80.1, 83.1, 79.8, 80.5),
}
# Share of the labels, epochs and first layer of the head (SimCLRv2, section 3).
FINE_TUNED = {
    "1percent": (0.01, 60, 1),
    "10percent": (0.1, 30, 1),
    "100percent": (1.0, 30, 0),
}
COLUMNS = {
    "1percent": "finetune.pretrained.top1",
    "10percent": "finetune.pretrained.top1",
    "100percent": "finetune.pretrained.top1",
    "linear": "probe.pretrained.top1",
    "supervised": "supervised.top1",
}


@pytest.mark.parametrize("place, variant", enumerate(COLUMNS))
def test_the_thirteen_networks_have_their_published_figures(place, variant):
    made, base = sweep(f"simclrv2_networks:{variant}"), f"simclrv2_networks:{variant}"
    assert len(made.rows) == len(made.published) == 13
    assert made.score == COLUMNS[variant]
    for row, figures in TABLE.items():
        assert made.published[row] == figures[place]
    # In the paper, width and selective kernels help in each column; so does depth.
    for depth in (50, 101, 152):
        kinds = ("1x", "1x-sk", "2x", "2x-sk")
        one, sk, two, both = (made.published[f"resnet{depth}-{x}"] for x in kinds)
        assert one < min(sk, two) <= max(sk, two) < both
    networks = {
        (x["encoder.depth"], x["encoder.width"], x["encoder.sk"])
        for x in made.rows.values()
    }
    assert len(networks) == 13
    if variant in FINE_TUNED:
        names = ("label_fraction", "epochs", "from_layer")
        found = fields(base)
        assert tuple(found[f"finetune.{x}"] for x in names) == FINE_TUNED[variant]


@pytest.mark.parametrize("variant", ["cifar10", "cpu", "imagenet"])
def test_every_head_is_fine_tuned_from_each_of_its_layers(variant):
    made = sweep(f"simclrv2_heads:{variant}")
    places = [
        (row["projector.layers"], row["finetune.from_layer"])
        for row in made.rows.values()
    ]
    assert sorted(places) == [(n, j) for n in (2, 3, 4) for j in range(n + 1)]
    assert made.score == "finetune.pretrained.top1"
    assert "finetune" in fields(f"simclrv2_heads:{variant}")["stages"]


def test_the_random_target_of_the_paper():
    """BYOL, table 5a, tau 1; 300 epochs: rate 0.3, decay 1e-6 (appendix)."""
    found = fields("random_target:imagenet")
    assert (found["epochs"], found["batch_size"]) == (300, 4096)
    assert (found["optimizer.lr"], found["optimizer.weight_decay"]) == (0.3, 1e-6)
    for variant in ("cpu", "cifar10", "imagenet"):
        found = fields(f"random_target:{variant}")
        assert found["method.momentum"] == 1.0
        assert found["method.target_init"] == "random"
        assert found["probe.target"]


def test_mocos_mechanisms_on_a_gpu():
    """MoCo v1, section 4.1: end-to-end up to batch 1024, groups of 32 images."""
    base, made = fields("moco_mechanisms:cifar10"), sweep("moco_mechanisms:cifar10")
    assert base["batch_size"] / base["method.bn_groups"] == 32
    assert base["optimizer.lr_scaling"] == "linear"
    largest = 0
    for row in made.rows.values():
        if row["method.mechanism"] == "end_to_end":
            assert row["batch_size"] == row["method.queue_size"]
            assert row["batch_size"] / row["method.bn_groups"] == 32
            largest = max(largest, row["batch_size"])
        else:
            assert "batch_size" not in row
    assert largest == 1024
