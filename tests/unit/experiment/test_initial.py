"""A run that begins from weights: where they go, what stays fresh, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_recipe
from safetensors.numpy import save_file
from tiny import TinyEncoder, write_npz

import simclr_jax
from simclr_jax import checkpoint, methods
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.experiment import initial, preflight
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.export import torch as export
from simclr_jax.heads import Projector
from simclr_jax.stages import pretrain
from simclr_jax.stages import run as stages

pytestmark = pytest.mark.usefixtures("compile_in_haste")


def shaken(tree, seed):
    """Every weight and statistic is a number of its own."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.asarray(x + rng.uniform(0.05, 0.3, x.shape), np.float32), tree
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run with a pretraining checkpoint at step 20, and its recipe."""
    folder = tmp_path_factory.mktemp("source")
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(folder / "squares.npz"))
    workdir = Workdir(folder / "run", config).open()
    run = Experiment(config, workdir, open_dataset(config).info)
    params, model_state = shaken(run.random_init, 0)
    items = {"params": params, "model_state": model_state}
    checkpoint.save(workdir.checkpoints("pretrain"), 20, items, run.meta(0))
    workdir.close()
    return folder / "run", params, model_state["batch_stats"]


def recipe(source, **fields):
    config = tiny_recipe.get_config()
    config.data.path = str(source[0].parent / "squares.npz")
    config.init_from = str(source[0])
    config.stages = ("pretrain",)
    config.epochs = config.probe.epochs = 1
    config.probe.every_epochs = 0
    config.update_from_flattened_dict(fields)
    return config


def start(config):
    return initial.read(config, open_dataset(config).info)


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def as_file(source, kind):
    """The source's encoder as a file of ours, or with torchvision's names."""
    encoder = simclr_jax.load(source[0])
    path = source[0].parent / f"{kind}.safetensors"
    encoder.save(path) if kind == "ours" else export.save(path, encoder)
    return str(path)


@pytest.mark.parametrize("kind", ["run", "ours", "torch"])
def test_encoder_and_statistics_come_from_a_run_or_a_file(source, kind):
    path = str(source[0]) if kind == "run" else as_file(source, kind)
    found = start(recipe(source, init_from=path))
    names = {"encoder"} if kind == "torch" else {"encoder", "projector"}
    assert set(found.params) == set(found.batch_stats) == names
    for name in names:
        assert_equal(found.params[name], source[1][name])
        assert_equal(found.batch_stats[name], source[2][name])
    step = "" if kind == "torch" else ", step 20"
    head = "the projector starts fresh: the file has none"
    said = head if kind == "torch" else "with its projector"
    assert found.said == f"starting from {path}{step}; {said}"


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"projector.dim": 8}, "its dim is 16, the recipe's 8"),
        ({"projector.layers": 3}, "its layers is 2, the recipe's 3"),
        ({"projector.activation": "gelu"}, "its activation is 'relu', the recipe's"),
    ],
)
def test_another_projector_starts_fresh(source, fields, why):
    found = start(recipe(source, **fields))
    assert set(found.params) == {"encoder"}
    assert f"the projector starts fresh: {why}" in found.said


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"encoder.depth": 50, "encoder.stem": "imagenet"},
            r"has a ResNet-10 \(width 0.0625, stem cifar\), the recipe's is a ResNet-50"
            r" \(width 0.0625, stem imagenet\); use --config.encoder.depth=10 "
            r"--config.encoder.stem=cifar, or other weights$",
        ),
        ({"encoder.sk": True}, "the recipe's is a .* selective kernels"),
        ({"init_from": "nowhere"}, r"^config\.init_from: nowhere does not exist$"),
    ],
)
def test_what_does_not_fit_is_refused(source, tmp_path, fields, message):
    config = recipe(source, **fields)
    with pytest.raises(RequestError, match=message) as caught:
        preflight.check(config, tmp_path / "run")
    assert str(caught.value).startswith("config.init_from: ")


def test_a_file_with_a_layer_too_few_is_refused(source, tmp_path):
    state = export.state_dict(simclr_jax.load(source[0]))
    del state["layer2.0.bn1.running_var"]
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(
        RequestError,
        match=r"stage2_block1\.bn1\.var of the encoder is "
        r"missing in .*x\.safetensors, and \(8,\) in the recipe",
    ):
        start(recipe(source, init_from=str(tmp_path / "x.safetensors")))


def test_a_workdir_without_a_checkpoint_is_refused(source, tmp_path):
    with pytest.raises(RequestError, match=r"config\.init_from: .* has no network of "):
        start(recipe(source, init_from=str(tmp_path)))


def test_other_channels_are_refused(source, tmp_path):
    arrays = dict(np.load(recipe(source).data.path))
    grey = {k: x[..., :1] if "images" in k else x for k, x in arrays.items()}
    np.savez(tmp_path / "grey.npz", **grey)
    with pytest.raises(RequestError, match=r"takes images of 3 channels; those of npz"):
        start(recipe(source, **{"data.path": str(tmp_path / "grey.npz")}))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"pretrained": "x"}, "config.pretrained names the encoder already"),
        ({"init_from": "", "init_normalized": True}, "init_normalized: it says how"),
    ],
)
def test_fields_that_contradict_each_other(source, fields, message):
    with pytest.raises(RequestError, match=message):
        validate(recipe(source, stages=("probe",), **fields))


def test_our_own_weights_are_not_for_normalised_pixels(source):
    with pytest.raises(
        RequestError, match=r"config\.init_normalized: .* is from simcl"
    ):
        start(recipe(source, init_normalized=True))
    path = as_file(source, "torch")
    kernel = start(recipe(source, init_from=path, init_normalized=True)).params
    ours = kernel["encoder"]["stem_conv"]["kernel"][0, 0, :, 0]
    before = source[1]["encoder"]["stem_conv"]["kernel"][0, 0, :, 0]
    np.testing.assert_allclose(ours, before / [0.229, 0.224, 0.225], rtol=1e-6)


OPTIONS = {
    "moco": {"queue_size": 8, "bn_groups": 1},
    "byol": {},
    "byol random": {"target_init": "random"},
    "simclr": {"memory": 8},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_target_that_is_a_copy_stays_one(name):
    method = methods.make(
        name.split()[0], TinyEncoder(), projector=Projector(dim=4), **OPTIONS[name]
    )
    fresh = method.init(jax.random.key(0), jnp.zeros((2, 16, 16, 3)))
    names = ("encoder", "projector")
    given = {k: shaken(fresh[0][k], 1) for k in names}
    stats = {k: shaken(fresh[1]["batch_stats"][k], 2) for k in names}
    params, model_state = jax.jit(initial.begin)(fresh, given, stats)
    target = model_state["target"]
    copied = name != "byol random"
    old = fresh[1]["target"]
    for k in names:
        assert_equal(params[k], given[k])
        assert_equal(model_state["batch_stats"][k], stats[k])
        assert_equal(target["params"][k], given[k] if copied else old["params"][k])
    assert_equal(target["batch_stats"], stats if copied else old["batch_stats"])
    for k in params.keys() - {*names}:  # BYOL's predictor
        assert_equal(params[k], fresh[0][k])


def test_pretraining_starts_there_and_goes_on_without_the_file(
    source, tmp_path, capsys
):
    config = recipe(source, max_steps=1)
    workdir = Workdir(tmp_path / "run", config).open()
    run = Experiment(config, workdir, open_dataset(config).info)
    training = pretrain.training(run)
    params, _ = training.init(*training.init_args)
    assert_equal(params["encoder"], source[1]["encoder"])
    assert set(params) == {"encoder", "projector", "online_probe"}
    other = recipe(source, init_from="")
    baseline = Experiment(other, workdir, run._info).random_init
    assert_equal(jax.device_get(run.random_init), jax.device_get(baseline))
    workdir.close()
    stages.run(config, str(tmp_path / "run"))
    assert capsys.readouterr().err.count("starting from ") == 1
    config.max_steps = 2
    path = config.init_from
    config.init_from = path + "/gone"  # only its name counts now
    with pytest.raises(RequestError, match=r"config\.init_from: .* was made with"):
        stages.run(config, str(tmp_path / "run"))
    config.init_from = path
    stages.run(config, str(tmp_path / "run"))
    assert "starting from" not in capsys.readouterr().err
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 2


def test_a_probe_of_weights_without_a_pretraining(source, tmp_path, capsys):
    """The same features, and so the same score, as the run has that made them."""
    scores = {}
    for name, fields in {
        "run": {"init_from": "", "pretrained": str(source[0])},
        "file": {"init_from": as_file(source, "torch")},
    }.items():
        config = recipe(source, stages=("knn", "probe", "export"), **fields)
        stages.run(config, str(tmp_path / name))
        results = Workdir(tmp_path / name, config).results()
        scores[name] = results["knn"]["top1"], results["probe"]["pretrained"]["top1"]
        assert results["knn"]["step"] == (0 if name == "file" else 20)
    assert scores["run"] == scores["file"]
    said = capsys.readouterr()
    assert said.err.count("starting from") == 1
    stages.run(config, str(tmp_path / "file"))
    again = capsys.readouterr()
    assert "everything is done already" in again.out
    assert "starting from" not in again.err
    images = np.zeros((2, 16, 16, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None]
    expected = simclr_jax.load(source[0]).embed(images)
    for made in (tmp_path / "file", tmp_path / "file" / "encoder.safetensors"):
        np.testing.assert_array_equal(simclr_jax.load(made).embed(images), expected)
    probed = simclr_jax.load(tmp_path / "file", stage="probe")
    assert probed.predict(images)[1].shape == (2, 4)


def test_weights_have_no_target_to_probe(source, tmp_path):
    config = recipe(source, stages=("probe",), **{"probe.target": True})
    config.method.name = "byol"
    with pytest.raises(RequestError, match=r"config\.probe\.target: weights of config"):
        preflight.check(config, tmp_path / "run")
