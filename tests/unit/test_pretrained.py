"""simclr_jax.load: a run's encoder without the recipe, the data set and TensorFlow."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_recipe
from PIL import Image
from tiny import ROOT, squares, write_npz
from tiny_runs import block

import simclr_jax
from simclr_jax import augment, checkpoint, data
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages.export import export

pytestmark = pytest.mark.usefixtures("compile_in_haste")

IMAGES, _ = squares(7, 3)


def shaken(tree, seed):
    """Every weight and statistic is a number of its own."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + rng.uniform(0.05, 0.3, x.shape).astype(np.float32), tree
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An Experiment with a checkpoint of pretraining at step 20."""
    folder = tmp_path_factory.mktemp("pretrained")
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(folder / "squares.npz"))
    config.projector.layers = 3
    config.finetune.from_layer = 1
    workdir = Workdir(folder / "run", config).open()
    run = Experiment(config, workdir, open_dataset(config).info)
    params, model_state = shaken(run.random_init, 0)
    other, _ = shaken(run.random_init, 1)
    target = {"params": other, "batch_stats": model_state["batch_stats"]}
    items = {
        "params": params | {"online_probe": {"dense": {"bias": np.zeros(4)}}},
        "model_state": model_state | {"target": target},
    }
    checkpoint.save(workdir.checkpoints("pretrain"), 20, items, run.meta(0))
    yield run
    workdir.close()


@pytest.fixture(scope="module")
def encoder(run):
    return simclr_jax.load(run.workdir.path)


def test_every_level_is_what_the_stages_compute(run, encoder):
    _, params, model_state = run.pretrained
    wanted, _ = run.features(params, model_state, run.images.test)
    images = run.images.test.images(np.arange(40))
    assert list(wanted) == list(encoder.levels) == ["h", "head_1", "head_2", "z"]
    for level, features in wanted.items():
        found = encoder.embed(images, level=level, batch_size=32)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, features, atol=1e-6, rtol=1e-6)
    assert np.std(wanted["z"], axis=0).min() > 1e-4  # else anything would be equal


def test_batches_and_lists_change_no_feature(encoder):
    whole = encoder.embed(IMAGES)
    assert whole.shape == (7, encoder.module.encoder.features)
    for given, size in ((IMAGES, 3), (list(IMAGES), 256), (list(IMAGES), 2)):
        np.testing.assert_allclose(encoder.embed(given, batch_size=size), whole, 1e-5)


def test_a_file_and_its_pixels_have_the_same_features(encoder, tmp_path):
    """Photos of other sizes too, which the data set "folder" would make square."""
    rng = np.random.default_rng(0)
    pixels = [
        rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((16, 16), (31, 40))
    ]
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for image, file in zip(pixels, files, strict=True):
        Image.fromarray(image).save(file)
    by_pixels = encoder.embed(pixels)
    np.testing.assert_array_equal(encoder.embed(files), by_pixels)
    np.testing.assert_array_equal(encoder.embed([str(x) for x in files]), by_pixels)
    assert encoder.embed(str(files[0])).shape[0] == 1


def test_apply_is_pure_and_module_is_flax(encoder):
    images = augment.to_float(jnp.asarray(IMAGES))
    levels = jax.jit(encoder.apply)(images)
    assert list(levels) == list(encoder.levels)
    np.testing.assert_allclose(levels["z"], encoder.embed(IMAGES, "z"), 1e-5, 1e-6)
    again = encoder.module.apply(encoder.variables, images)
    np.testing.assert_allclose(again["h"], levels["h"], 1e-5, 1e-6)
    gradient = jax.grad(lambda x: encoder.apply(x)["h"].sum())(images)
    assert np.abs(gradient).max() > 0
    # In training mode BatchNorm's statistics move: the weights can be trained on.
    _, moved = encoder.module.apply(
        encoder.variables, images, train=True, mutable=["batch_stats"]
    )
    means = [
        x["batch_stats"]["encoder"]["stem_bn"]["mean"]
        for x in (encoder.variables, moved)
    ]
    assert not np.allclose(*means)


def test_its_text_is_one_line(encoder):
    assert str(encoder) == (
        "Encoder(ResNet-10 x 0.0625, 16 px, 3 channels, levels h, head_1, head_2, z; "
        "stage pretrain, step 20)"
    )


def test_the_config_says_what_the_encoder_takes(run, encoder):
    about = encoder.config
    assert about["encoder"] == dict(run.config.encoder)
    assert (about["channels"], about["size"]) == (3, 16)
    made = {"view": "center", "stored": [16, 16], "bits": 0}
    assert about["preprocessing"] == made
    assert about["class_names"] == list(open_dataset(run.config).info.class_names)
    assert (about["stage"], about["step"], about["method"]) == (
        "pretrain",
        20,
        "simclr",
    )
    assert set(encoder.variables["params"]) == {"encoder", "projector"}


def test_the_target_is_another_network(run, encoder):
    target = simclr_jax.load(run.workdir.path, variant="target")
    _, params, model_state = run.target
    wanted, _ = run.features(params, model_state, run.images.test, ("h",))
    found = target.embed(run.images.test.images(np.arange(40)))
    np.testing.assert_allclose(found, wanted["h"], atol=1e-6, rtol=1e-6)
    assert not np.allclose(found[:7], encoder.embed(IMAGES))


def test_a_classifier_names_classes(run):
    """Of a network that classifies the projector's first layer."""
    _, params, model_state = run.pretrained
    network = ClassifierNetwork(Network(run.encoder, run.projector), 1, 4)
    start = network.init(run.key("init"), params, model_state, run.blank(16))
    params, model_state = shaken(start, 2)
    images = IMAGES / np.float32(255)
    features, _ = network.network.from_layer(
        params, model_state["batch_stats"], images, 1, train=False
    )
    spread = np.ptp(features, axis=0, keepdims=True).T + 1e-3
    kernel = np.random.default_rng(3).normal(size=(len(spread), 4)) / spread
    bias = -np.mean(features, axis=0) @ kernel
    dense = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    params["classifier"] = {"dense": dense}
    folder = run.workdir.checkpoints("finetune", "pretrained")
    names = ["red", "green", "blue", "yellow"]
    shape = {"from_layer": 1, "num_classes": 4, "size": 16, "class_names": names}
    items = {"params": params, "model_state": model_state}
    checkpoint.save(folder, 6, items, run.meta(20) | shape)

    encoder = simclr_jax.load(run.workdir.path, stage="finetune")
    assert encoder.levels == ("h", "head_1")
    found, probabilities = encoder.predict(IMAGES)
    logits, _ = network.logits(params, model_state, images, train=False)
    wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, wanted, rtol=1e-4, atol=1e-6)
    assert found.tolist() == [names[i] for i in np.argmax(logits, -1)]
    assert len(set(found)) > 1
    # The same from one file.
    path = run.workdir.path / "classifier.safetensors"
    encoder.save(path)
    again, same = simclr_jax.load(path).predict(IMAGES)
    np.testing.assert_array_equal(again, found)
    np.testing.assert_array_equal(same, probabilities)


@pytest.fixture
def old(run, tmp_path):
    """A workdir whose checkpoint describes encoder and projector alone, as versions
    before `load` wrote it."""
    path = tmp_path / "old"
    found = checkpoint.restore(
        run.workdir.checkpoints("pretrain"), {"params": None, "model_state": None}
    )
    meta = {name: run.meta(0)[name] for name in ("encoder", "projector", "source_step")}
    checkpoint.save(path / "checkpoints", 20, found[1], meta)
    config = run.config.to_dict()
    del config["fsdp"]  # a field that is newer
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_an_older_workdir_loads(encoder, old):
    loaded = simclr_jax.load(old)
    assert (loaded.config["channels"], loaded.config["size"]) == (3, 16)
    np.testing.assert_array_equal(loaded.embed(IMAGES), encoder.embed(IMAGES))
    (old / "config.json").unlink()
    with pytest.raises(ValueError, match=r"older version.*config\.json"):
        simclr_jax.load(old)


def test_deep_greys_are_scaled_as_in_training(tmp_path):
    """White is 4,095 for all files of the folder; the darkest alone takes 8 bits."""
    photos = tmp_path / "photos"
    photos.mkdir()
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for k, factor in enumerate((1, 4, 16)):
        Image.fromarray(ramp * np.uint16(factor)).save(photos / f"{k}.png")
    config = tiny_recipe.get_config()
    config.data.name, config.data.path = "folder", str(photos)
    config.data.stored_size, config.data.test_split = 16, "train"
    workdir = Workdir(tmp_path / "run", config).open()
    run = Experiment(config, workdir, open_dataset(config).info)
    params, model_state = shaken(run.random_init, 0)
    items = {"params": params, "model_state": model_state}
    checkpoint.save(workdir.checkpoints("pretrain"), 1, items, run.meta(0))
    workdir.close()
    encoder = simclr_jax.load(run.workdir.path)
    encoder.save(tmp_path / "encoder.safetensors")
    assert encoder.config["preprocessing"]["bits"] == 12
    dark = encoder.embed([photos / "0.png"])
    grey = np.round(ramp * 255 / 4095).astype(np.uint8)[..., None].repeat(3, -1)
    np.testing.assert_allclose(dark, encoder.embed(grey[None]), rtol=1e-5)
    files = [photos / f"{k}.png" for k in range(3)]
    wanted, _ = run.features(params, model_state, run.images.train, ("h",))
    names = data.file_names("folder", "train", path=str(photos), stored_size=16)
    order = [int(name.removesuffix(".png")) for name in names]
    for loaded in (encoder, simclr_jax.load(tmp_path / "encoder.safetensors")):
        np.testing.assert_allclose(loaded.embed(files)[order], wanted["h"], 1e-5)


def test_stage_export_writes_the_same_encoder_once(run, encoder, monkeypatch):
    export(run)
    path = run.workdir.path / "encoder.safetensors"
    loaded = simclr_jax.load(path)
    assert loaded.config == encoder.config
    for level in encoder.levels:
        np.testing.assert_array_equal(
            loaded.embed(IMAGES, level), encoder.embed(IMAGES, level)
        )
    before = path.stat().st_mtime_ns
    export(run)
    assert path.stat().st_mtime_ns == before
    # A newer checkpoint, or a file that a crash has torn, is written again.
    path.write_bytes(path.read_bytes()[:100])
    export(run)
    assert simclr_jax.load(path).config["step"] == 20
    _, params, model_state = run.pretrained
    later = {"params": shaken(params, 5), "model_state": model_state}
    checkpoint.save(run.workdir.checkpoints("pretrain"), 25, later, run.meta(0), keep=2)
    try:
        export(run)
        newer = simclr_jax.load(path)
        assert newer.config["step"] == 25
        assert not np.allclose(newer.embed(IMAGES), encoder.embed(IMAGES))
        older = simclr_jax.load(run.workdir.path, step=20)
        np.testing.assert_array_equal(older.embed(IMAGES), encoder.embed(IMAGES))
    finally:
        import shutil

        shutil.rmtree(run.workdir.checkpoints("pretrain") / "25")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"stage": "knn"}, "'knn' trains no network; choose from pretrain, finetune"),
        ({"stage": "finetune", "variant": "best"}, "has no 'best', only pretrained"),
        ({"variant": "best"}, "'best' of pretrain"),
        ({"step": 7}, "no checkpoint step 7 in .*, only 20"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(run, options, words):
    folder = run.workdir.path / "stages/finetune/pretrained"
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(ValueError, match=words) as error:
        simclr_jax.load(run.workdir.path, **options)
    assert "\n" not in str(error.value)


def test_missing_runs_and_checkpoints(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run or file"):
        simclr_jax.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"has no network of stage pretrain$"):
        simclr_jax.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="stage 'probe' has not run"):
        simclr_jax.load(run.workdir.path, stage="probe")
    with pytest.raises(
        FileNotFoundError,
        match="no network of stage supervised; it has one of pretrain",
    ):
        simclr_jax.load(run.workdir.path, stage="supervised")


def test_levels_and_classes_that_are_not_there(encoder):
    with pytest.raises(ValueError, match="'head_9' is not one of h, head_1, head_2, z"):
        encoder.embed(IMAGES, level="head_9")
    with pytest.raises(ValueError, match=r"no classifier; load one .*stage='finetune'"):
        encoder.predict(IMAGES)


def test_a_damaged_checkpoint_is_named(old):
    for file in (old / "checkpoints/20/arrays").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            content = bytearray(file.read_bytes())
            content[1000] ^= 1
            file.write_bytes(content)
    with pytest.raises(ValueError, match="checkpoint step 20 is damaged"):
        simclr_jax.load(old)


@pytest.mark.parametrize("value", ["missing", None, 3, 1e308, "x", [], {}, [[]]])
def test_a_record_that_someone_else_wrote_is_one_line(run, monkeypatch, value):
    """Each entry in turn is missing or of another type; or the network is usable."""
    restore = checkpoint.restore

    def load(name, part):
        def changed(*arguments, **options):
            step, items, meta = restore(*arguments, **options)
            meta = json.loads(json.dumps(meta))
            where = meta[name] if part else meta
            if value == "missing":
                del where[part or name]
            else:
                where[part or name] = value
            return step, items, meta

        monkeypatch.setattr(checkpoint, "restore", changed)
        return simclr_jax.load(run.workdir.path)

    *_, meta = restore(run.workdir.checkpoints("pretrain"), {"params": None})
    names = [(name, "") for name in meta]
    names += [("preprocessing", part) for part in meta["preprocessing"]]
    for name, part in names:
        said = ""
        try:
            assert load(name, part).levels
        except ValueError as error:
            said = str(error)
        assert "\n" not in said, (name, part)


@pytest.mark.slow
def test_a_file_needs_neither_tensorflow_nor_the_recipes_packages(run, tmp_path):
    """In a process of its own; a network of one channel, too."""
    simclr_jax.load(run.workdir.path).save(tmp_path / "encoder.safetensors")
    blocked = block(
        tmp_path / "blocked", "tensorflow", "tensorflow_datasets", "orbax", "clu"
    )
    script = (
        "import simclr_jax, numpy as np\n"
        f"encoder = simclr_jax.load({str(tmp_path / 'encoder.safetensors')!r})\n"
        "print(encoder.embed(np.zeros((2, 16, 16, 3), np.uint8)).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": blocked, "JAX_PLATFORMS": "cpu", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"(2, {run.encoder.features})\n", done.stderr
