"""The recipes as shipped: valid, documented, and ready for a GPU nobody has here."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import assert_lowers_for_cuda
from tiny import ROOT, launch
from tiny_tfds import write_tfds

from configs import common
from simclr_jax import augment, data
from simclr_jax import training as train
from simclr_jax.config import sizes
from simclr_jax.config.command_line import parse
from simclr_jax.config.fields import flatten, method_options
from simclr_jax.config.rules import RULES
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.experiment.build import view
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.restore import matching
from simclr_jax.methods import moco
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.report import table as report
from simclr_jax.stages import finetune, pretrain
from simclr_jax.sweep import plan as sweep_plan
from simclr_jax.sweep.recipe import load as load_sweep

SWEEPS = ["small_batch", "small_batch:one_schedule", "small_batch:cpu"]
SWEEPS += ["small_batch:cifar10", "small_batch:beyond", "small_batch:beyond_cpu"]
SWEEPS += ["augmentations", "augmentations:cpu", "batch_epochs", "batch_epochs:cpu"]
SWEEPS += ["head_depth", "head_depth:cpu"]
SWEEPS += ["moco_mechanisms", "moco_mechanisms:cifar10"]
SWEEPS += ["simclrv2_heads", "simclrv2_heads:cpu", "simclrv2_heads:imagenet"]
SWEEPS += ["simclrv2_networks", "simclrv2_networks:1percent"]
SWEEPS += ["simclrv2_networks:10percent", "simclrv2_networks:100percent"]
SWEEPS += ["simclrv2_networks:supervised", "simclrv2_networks:cifar10"]
RANDOM_TARGET = ["random_target", "random_target:cifar10", "random_target:imagenet"]
RECIPES = [
    *("cifar10", "cifar10:resnet18", "cifar10:moco", "cifar10:byol"),
    *("cifar10:linear_head", "cifar10:simsiam", "cifar10:barlow", "cifar10:vicreg"),
    *("cifar10_cpu", "cifar10_cpu:moco", "cifar10_cpu:byol", "demo", "cifar10:dcl"),
    *(f"cifar10_cpu:{name}" for name in ("simsiam", "barlow", "vicreg", "dcl")),
    *("imagenet", "imagenet:moco", "imagenet:moco_v1", "imagenet:byol"),
    *("stl10", "stl10:batch128", "stl10:published", *RANDOM_TARGET, *SWEEPS),
    *("simclrv2", "simclrv2:cifar10", "simclrv2:cpu", "folder", "folder:labelled"),
]


def load(name):
    file, _, variant = name.partition(":")
    module = importlib.import_module(f"configs.{file}")
    config = module.get_config(*filter(None, [variant]))
    sizes.settle(config, {})  # as in a new workdir
    return module, config


@pytest.mark.parametrize("name", sorted({*RECIPES} - {*SWEEPS, *RANDOM_TARGET}))
@pytest.mark.parametrize("method", ["simclr", "moco", "byol"])
def test_every_recipe_takes_another_method_by_its_name(name, method):
    """Its own method's options go with its method; the command line's stay."""
    file, colon, variant = name.partition(":")
    recipes = load(name)[1]
    flags = [f"--config={ROOT}/configs/{file}.py{colon}{variant}", "--workdir=none"]
    changes = [f"--config.method.name={method}", "--config.batch_size=64"]
    changes.append("--config.microbatch=0")
    given = {"bn_groups": 8} if method == "moco" else {}
    changes += [f"--config.method.{key}={value}" for key, value in given.items()]
    config = parse(["launch.py", *flags, *changes]).config
    validate(config)
    same = recipes.method.name == method
    kept = method_options(recipes) if same else {}
    assert method_options(config) == kept | given
    assert config.predictor.hidden == (
        recipes.predictor.hidden if method == "byol" else None
    )
    if method == "byol":
        changes.append("--config.method.temperature=0.1")
        config = parse(["launch.py", *flags, *changes]).config
        with pytest.raises(RequestError, match=r"^config\.method\.temperature: byol"):
            validate(config)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_documented(name):
    module, config = load(name)
    validate(config)
    assert f"--config=configs/{name.partition(':')[0]}.py" in module.__doc__
    # The published rows name results that the report has.
    results = {
        "finetune": {"label_fraction": 0.1, "step": 1},
        "probe": {"label_fraction": 0.1, "layers": {}, "step": 1},
        "knn": {"top1": 0.5, "step": 1},
    }
    for stage in ("finetune", "probe"):
        for variant in ("pretrained", "random_init"):
            results[stage][variant] = {"top1": 0.5, "top3": 0.75}
    results["probe"]["target"] = {"top1": 0.5, "top3": 0.75}
    if config.probe.second.run:
        names = ("pretrained", "random_init")
        results["probe"]["second"] = {name: results["probe"][name] for name in names}
    shown = [row for row in report.rows(results, config) if row.published]
    assert len(shown) == len(config.published.rows)


@pytest.mark.parametrize("name", RECIPES)
def test_all_stages_see_images_of_one_size(name):
    """Those a recipe does not run too: the command line may add them."""
    _, config = load(name)
    labelled = [config[s].augment for s in ("finetune", "supervised", "distill")]
    assert {fields.size for fields in labelled} == {config.augment.size}
    # Digits have no mirror images; what else a recipe says of crops is of all stages.
    assert len({(fields.flip, fields.crop_scale) for fields in labelled}) == 1


def test_every_field_has_a_rule_or_is_free_text():
    """A new field without a rule would accept anything."""
    free = {"data.name", "data.train_split", "data.test_split", "data.pretrain_split"}
    fields = flatten(common.get_config())
    unruled = {
        path
        for path, value in fields
        if path not in RULES and not isinstance(value, bool)
    }
    assert unruled - free == {"published.source"}


def test_a_mistyped_field_in_a_recipe_is_refused():
    for path, hint in (("epoch", "epochs"), ("optimizer.lrr", "optimizer.lr")):
        config = common.get_config()
        section, _, leaf = path.rpartition(".")
        (config[section] if section else config)[leaf] = 3
        with pytest.raises(RequestError, match=f"config.{path}: .*{hint}"):
            validate(config)
    config = common.get_config()
    del config["epochs"]
    with pytest.raises(RequestError, match=r"config\.epochs"):
        validate(config)


def test_cifar10_is_simclrs_experiment_at_a_published_size():
    """SimCLR (arXiv 2002.05709), appendix B.9: the ResNet-50 with a 3x3 stem, colour
    distortion of strength 0.5 with the probabilities of appendix A, no blur."""
    _, config = load("cifar10")
    fields = dict(flatten(config))
    paper = {
        "method.name": "simclr",
        "method.temperature": 0.5,
        "encoder.depth": 50,
        "encoder.width": 1.0,
        "encoder.stem": "cifar",
        "augment.flip": 0.5,
        "augment.jitter": 0.8,
        "augment.brightness": 0.8 * 0.5,
        "augment.contrast": 0.8 * 0.5,
        "augment.saturation": 0.8 * 0.5,
        "augment.hue": 0.2 * 0.5,
        "augment.grayscale": 0.2,
        "augment.blur": 0.0,
        "augment.second.blur": None,
    }
    assert {name: fields[name] for name in paper} == paper
    # What the figures printed next to ours were measured with.
    size = f"ResNet-50, {config.epochs} epochs, batch ~{config.batch_size}, "
    assert size in config.published.source
    assert config.finetune.label_fraction == config.probe.label_fraction == 0.1


def test_cifar10s_second_probe_is_that_of_the_published_figures():
    """Raw features, Adam 1e-3 all along, 50 epochs of the labels, decay 1e-5."""
    _, config = load("cifar10")
    second, optimizer = config.probe.second, config.probe.second.optimizer
    assert (second.run, second.standardize, second.epochs) == (True, False, 50)
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == (
        "adam",
        1e-3,
        1e-5,
    )
    assert (optimizer.schedule, optimizer.warmup_epochs) == ("constant", 0)
    # A figure of one protocol does not stand next to a score of the other.
    assert config.probe.standardize
    published = {name for name, *_ in config.published.rows}
    assert {"probe second pretrained", "probe second random_init"} <= published
    assert not {"probe pretrained", "probe random_init"} & published


# arXiv 2006.07733, section 3 and appendix; 2003.04297; 1911.05722, with their code.
MOCO = {
    "batch_size": 256,
    "epochs": 200,
    "method.momentum": 0.999,
    "method.queue_size": 65_536,
    "projector.dim": 128,
    "projector.norm": False,
    "optimizer.name": "sgd",
    "optimizer.lr": 0.03,
    "optimizer.weight_decay": 1e-4,
    "encoder.init_scheme": "torchvision",
    "augment.crop_scale": (0.2, 1.0),
}
PAPERS = {
    "imagenet:byol": {
        "batch_size": 4096,
        "epochs": 1000,
        "method.momentum": 0.996,
        "projector.hidden": 4096,
        "projector.dim": 256,
        "predictor.hidden": 4096,
        "optimizer.name": "lars",
        "optimizer.lr": 0.2,
        "optimizer.lr_scaling": "linear",
        "optimizer.weight_decay": 1.5e-6,
        "optimizer.warmup_epochs": 10.0,
        "augment.saturation": 0.2,
        "augment.hue": 0.1,
        "augment.blur": 1.0,
        "augment.second.blur": 0.1,
        "augment.solarize": 0.0,
        "augment.second.solarize": 0.2,
    },
    "imagenet:moco": {
        **MOCO,
        "method.temperature": 0.2,
        "projector.layers": 2,
        "projector.hidden": 2048,
        "optimizer.schedule": "cosine",
        "augment.jitter": 0.8,
        "augment.hue": 0.1,
        "augment.blur": 0.5,
    },
    "imagenet:moco_v1": {
        **MOCO,
        "method.temperature": 0.07,
        "projector.layers": 1,
        "optimizer.schedule": "step",
        "augment.jitter": 1.0,
        "augment.hue": 0.4,
        "augment.blur": 0.0,
    },
    # google-research/simclr, README; arXiv 2006.10029, section 3.
    "simclrv2": {
        "batch_size": 4096,
        "epochs": 800,
        "method.temperature": 0.1,
        "projector.layers": 3,
        "optimizer.lr": 0.1,
        "optimizer.lr_scaling": "sqrt",
        "optimizer.weight_decay": 1e-4,
        "finetune.from_layer": 1,
        "finetune.batch_size": 1024,
        "finetune.epochs": 60,
        "finetune.optimizer.lr": 0.005,
        "finetune.optimizer.lr_scaling": "sqrt",
        "finetune.optimizer.weight_decay": 0.0,
        "finetune.optimizer.warmup_epochs": 0.0,
        "distill.encoder.depth": None,  # the teacher's own: self-distillation
        "distill.temperature": 0.1,
        "distill.epochs": 400,
    },
}


@pytest.mark.parametrize("name", PAPERS)
def test_imagenet_has_the_papers_settings(name):
    _, config = load(name)
    fields = dict(flatten(config))
    assert {path: fields[path] for path in PAPERS[name]} == PAPERS[name]


def points(name):
    """{row: its fields} of a recipe's sweep, with seed 0; every row valid."""
    _, config = load(name)
    file, colon, variant = name.partition(":")
    sweep = load_sweep(f"{ROOT}/configs/{file}.py{colon}{variant}")
    found = sweep_plan.points(sweep, config, [0], "/nowhere")
    sweep_plan.check(sweep, found, [], to_run=False)
    return sweep, {p.row: dict(flatten(p.config)) for p in found}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_row_of_every_sweep_is_valid_and_different(name):
    sweep, fields = points(name)
    assert len({repr(sorted(x.items())) for x in fields.values()}) == len(sweep.rows)


@pytest.mark.parametrize("name", SWEEPS[:3])
def test_small_batch_is_the_published_study(name):
    sweep, fields = points(name)
    # Small-Batch SimCLR, tables I to VI.
    figures = [68.59, 71.59, 67.54, 67.95, 68.84, 69.85, 69.53, 70.25, 70.67]
    assert [sweep.published[row] for row in sweep.rows] == figures
    base, large, z, tanh, leaky, lars, three, four, both = fields.values()

    def changes(one):
        return {path for path in base if one[path] != base[path]}

    assert changes(large) == {"batch_size"}
    assert large["batch_size"] == 2 * base["batch_size"]
    assert (base["probe.features"], z["probe.features"]) == ("h", "z")
    assert changes(z) == {"probe.features"}
    activations = [x["projector.activation"] for x in (base, tanh, leaky)]
    assert activations == ["relu", "tanh", "leaky_relu"]
    assert changes(tanh) == changes(leaky) == {"projector.activation"}
    depths = [x["projector.layers"] for x in (base, three, four, both)]
    assert depths == [2, 3, 4, 4]
    assert changes(three) == changes(four) == {"projector.layers"}
    assert (base["optimizer.name"], lars["optimizer.name"]) == ("adam", "lars")
    assert changes(both) == changes(lars) | {"projector.layers"}
    assert all(path.startswith("optimizer.") for path in changes(lars))
    # As published, Adam's rate is constant and LARS's is not.
    schedules = {"optimizer.schedule", "optimizer.warmup_epochs"}
    assert bool(changes(lars) & schedules) == (name == "small_batch")


def test_the_study_on_two_cores_is_the_yardstick_but_for():
    _, fields = points("small_batch:cpu")
    yardstick = dict(flatten(load("cifar10_cpu")[1]))
    base = fields["batch-64"]
    assert {path: base[path] for path in base if base[path] != yardstick[path]} == {
        "batch_size": 64,
        "epochs": 10,
        "data.limit": 5000,
        "stages": ("pretrain", "probe"),
        "optimizer.schedule": "cosine",
        "optimizer.warmup_epochs": 1.0,
        "probe.every_epochs": 0,
        "probe.optimizer.weight_decay": 1 / 5000,
    }


@pytest.mark.parametrize(
    "name, study",
    [("small_batch:beyond", "cifar10"), ("small_batch:beyond_cpu", "cpu")],
)
def test_beyond_the_study_only_the_method_changes(name, study):
    """And its head; schedule, data and length are those of the study's variant."""
    sweep, fields = points(name)
    _, studied = points(f"small_batch:{study}")
    base, large, dcl, dcl_lars, moco, byol, barlow = fields.values()
    assert base == next(iter(studied.values()))
    assert large == list(studied.values())[1]
    assert not sweep.published

    def changes(one):
        return {path for path in base if one[path] != base[path]}

    assert changes(dcl) == {"method.decoupled"}
    both = studied["lars-4-layers"]
    assert changes(dcl_lars) == changes(both) | {"method.decoupled"}
    assert all(dcl_lars[path] == both[path] for path in changes(both))
    parts = ("method.", "projector.", "predictor.")
    for row, method in ((moco, "moco"), (byol, "byol"), (barlow, "barlow_twins")):
        assert row["method.name"] == method
        assert all(path.startswith(parts) for path in changes(row))
    # BatchNorm of 32 images, as the authors' on CIFAR-10 at half the batch.
    assert moco["batch_size"] // moco["method.bn_groups"] == 32


def test_an_augmentation_is_on_in_one_view_and_alone():
    """SimCLR, figure 5: the other view is left as it is."""
    _, config = load("augmentations")
    sweep = load_sweep(f"{ROOT}/configs/augmentations.py")
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)))
    images = images.astype(jnp.uint8)
    assert len(sweep.rows) == 15
    for point in sweep_plan.points(sweep, config, [0], "/nowhere"):
        if "+" in point.row:  # its two halves are rows themselves
            continue
        fields = point.config.augment
        pair = (view(fields), view(fields, fields.second))
        first, second = augment.two_views(
            jax.random.key(0), images, views=pair, size=32
        )
        np.testing.assert_allclose(second, images / 255, atol=1e-6)
        assert np.abs(np.asarray(first) - images / 255).max() > 0.1, point.row


@pytest.mark.thorough
def test_stl10_pretrains_on_the_images_without_labels(tmp_path):
    """As TFDS stores it: 96 pixels, a split `unlabelled` whose labels are -1."""
    images = [np.full((96, 96, 3), 10 * k, np.uint8) for k in range(20)]
    splits = {"train": range(10), "test": range(10), "unlabelled": range(10, 20)}
    write_tfds(
        tmp_path / "tfds",
        "tfrecord",
        images,
        splits,
        name="stl10",
        labels=lambda split, k: -1 if split == "unlabelled" else k,
        version="1.0.0",
    )
    done = launch(
        f"--config={ROOT}/configs/stl10.py",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.data_dir={tmp_path / 'tfds'}",
        "--config.encoder.width=0.0625",
        "--config.encoder.depth=10",
        "--config.batch_size=5",
        "--config.eval_batch_size=10",
        "--config.epochs=1",
        "--config.probe.batch_size=10",
        "--config.stages=('pretrain','probe')",
        "--config.probe.every_epochs=0",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["pretrain"]["step"] == 2  # ten images, not the labelled ones too
    # Ten images of one grey each, probed with themselves.
    assert results["probe"]["layers"].keys() == {"h", "head_1", "z"}


def experiment(name, **changes):
    _, config = load(name)
    config.update(changes)
    validate(config)
    info = data.Info("cifar10", {"train": 50_000, "test": 10_000}, 10, (), (32, 32, 3))
    return Experiment(config, None, info)  # type: ignore[arg-type]


def test_a_batch_larger_than_its_labels_is_refused():
    """Zero steps an epoch would report an untrained network as a result."""
    with pytest.raises(RequestError, match=r"config\.finetune\.batch_size: 200 .* 100"):
        experiment("cifar10").plan("finetune", 100)


def test_checkpoints_are_matched_by_shape():
    want = {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32), "none": {}}
    want["cursor"] = jax.ShapeDtypeStruct((), jnp.int32)
    stored = {"encoder": {"kernel": np.ones((2, 3)), "cursor": np.ones(())}}
    found = matching(want, stored, "encoder")
    np.testing.assert_array_equal(found["kernel"], 1)
    assert found["none"] == {}
    stored["encoder"]["kernel"] = np.ones((3, 3))
    with pytest.raises(RequestError, match=r"encoder\.kernel is \(3, 3\).*\(2, 3\)"):
        matching(want, stored, "encoder")
    del stored["encoder"]["kernel"]
    with pytest.raises(RequestError, match=r"no encoder\.kernel"):
        matching(want, stored, "encoder")


def test_results_of_an_earlier_step_are_marked():
    _, config = load("cifar10_cpu")
    results = {"pretrain": {"step": 9}, "knn": {"top1": 0.5, "step": 5}}
    assert [row.label for row in report.rows(results, config)] == [
        "kNN, k 200 (step 5)"
    ]
    results["knn"]["step"] = 9
    assert [row.label for row in report.rows(results, config)] == ["kNN, k 200"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_steps_of_cifar10_lower_for_cuda(precision):
    recipe = experiment("cifar10", precision=precision)
    config, method, size = recipe.config, recipe.method, recipe.config.augment.size
    key = jax.eval_shape(lambda: jax.random.key(0))
    plan, total = recipe.plan("pretrain", 50_000)
    assert (plan.steps_per_epoch, total) == (250, 12_500)
    tx, _ = recipe.optimizer("pretrain", plan, total)
    batch = {
        "index": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
        "dataset": {
            "image": jax.ShapeDtypeStruct((50_000, 32, 32, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct((50_000,), jnp.int32),
        },
    }
    views = (view(config.augment), view(config.augment, config.augment.second))
    loss_fn = pretrain.make_loss(method, views, size, num_classes=10)

    def pretraining():
        params, model_state = recipe.init()
        head = {"kernel": jnp.zeros([2048, 10]), "bias": jnp.zeros(10)}
        params["online_probe"] = {"dense": head}
        return train.init_state(params, model_state, tx)

    state = jax.eval_shape(pretraining)
    step = train.make_step(loss_fn, tx, prepare=data.take)
    assert_lowers_for_cuda(step, state, key, batch, donates=True)

    below = Network(recipe.encoder, recipe.projector)
    network = ClassifierNetwork(below, 0, 10)

    def start():
        params, model_state = recipe.init()
        fresh = network.init(jax.random.key(0), params, model_state, recipe.blank(size))
        return train.init_state(*fresh, tx)

    loss_fn = finetune.make_loss(network, view(config.finetune.augment), size)
    step = train.make_step(loss_fn, tx, prepare=data.take)
    start_state = jax.eval_shape(start)
    assert_lowers_for_cuda(step, start_state, key, batch, donates=True)


@pytest.mark.parametrize("variant", ["cpu", "cifar10"])
def test_the_mechanisms_rows_are_valid(variant):
    """Each point's recipe; the chart's axis is a field that they change."""
    module = importlib.import_module("configs.moco_mechanisms")
    sweep = module.sweep(variant)
    assert sweep["baseline"] in sweep["rows"]
    seen = set()
    for fields in sweep["rows"].values():
        config = module.get_config(variant)
        config.update_from_flattened_dict(fields)
        validate(config)
        flat = dict(flatten(config))
        seen.add((flat[sweep["chart"]["lines"]], flat[sweep["chart"]["x"]]))
    assert len(seen) == len(sweep["rows"])
    assert {mechanism for mechanism, _ in seen} == set(moco.MECHANISMS)
