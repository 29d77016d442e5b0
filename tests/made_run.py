"""A run on class folders, with the networks of pretraining and of fine-tuning: random
weights, saved as the stages save them."""

import jax
import numpy as np
import pytest
import tiny_recipe
from PIL import Image
from tiny import squares

from simclr_jax import checkpoint
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.workdir import Workdir

COLOURS = ("blue", "green", "red", "yellow")


def shaken(tree, seed):
    """Every weight and statistic is a number of its own."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + rng.uniform(0.05, 0.3, x.shape).astype(np.float32), tree
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Class folders of 16 x 16 PNG files, six of each colour."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = squares(24, 5)
    for k, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        (folder / COLOURS[label]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / COLOURS[label] / f"{k}.png")
    return folder


@pytest.fixture(scope="session")
def run(photos, tmp_path_factory):
    """An Experiment with checkpoints of pretraining at step 20, fine-tuning at 6."""
    jax.config.update("jax_disable_most_optimizations", True)
    config = tiny_recipe.get_config()
    config.data.name, config.data.path = "folder", str(photos)
    config.data.stored_size, config.data.test_split = 16, "train"
    workdir = Workdir(tmp_path_factory.mktemp("made") / "run", config).open()
    run = Experiment(config, workdir, open_dataset(config).info)
    params, model_state = shaken(run.random_init, 0)
    items = {"params": params, "model_state": model_state}
    checkpoint.save(workdir.checkpoints("pretrain"), 20, items, run.meta(0))
    # On h, with weights by which several classes win.
    h = run.features(params, model_state, run.images.train, ("h",))[0]["h"]
    kernel = (
        np.random.default_rng(3).normal(size=(h.shape[1], 4)) / h.std(axis=0)[:, None]
    )
    bias = -h.mean(axis=0) @ kernel
    dense = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    tuned = {"params": params | {"classifier": {"dense": dense}}}
    shape = {"from_layer": 0, "num_classes": 4, "size": 16}
    folder = workdir.checkpoints("finetune", "pretrained")
    checkpoint.save(folder, 6, items | tuned, run.meta(20) | shape)
    workdir.close()
    jax.config.update("jax_disable_most_optimizations", False)
    return run
