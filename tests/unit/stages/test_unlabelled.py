"""Scores without labels during pretraining: of which images, views and levels."""

import jax
import numpy as np
import pytest
import tiny_recipe
from tiny import write_npz
from tiny_runs import lines

from simclr_jax import evaluation
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages import run as stages_run
from simclr_jax.stages import unlabelled

pytestmark = pytest.mark.usefixtures("compile_in_haste")


@pytest.fixture
def config(tmp_path):
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    return config


def experiment(config, path):
    return Experiment(config, Workdir(path, config), open_dataset(config).info)


def test_views_that_agree_are_aligned_and_rankme_is_of_h(config, tmp_path):
    for name in ("flip", "jitter", "grayscale"):
        config.augment[name] = 0.0
    config.augment.crop_scale = config.augment.crop_ratio = (1.0, 1.0)
    run = experiment(config, tmp_path / "run")
    found = unlabelled.scores(run)(*run.random_init)
    features, _ = run.features(*run.random_init, run.images.train)
    assert tuple(found) == unlabelled.NAMES
    assert found["alignment"] == pytest.approx(0, abs=1e-4)
    # The whole image is every view's crop, so z is that of the image.
    expected = evaluation.uniformity(features["z"])
    assert found["uniformity"] == pytest.approx(expected, abs=1e-3)
    expected = evaluation.rankme(features["h"])
    assert found["rankme"] == pytest.approx(expected, rel=1e-6)


def test_the_draws_are_the_same_each_time_and_compile_once(config, tmp_path):
    run = experiment(config, tmp_path / "run")
    measure, compiled = unlabelled.scores(run), []
    first = measure(*run.random_init)
    assert 0 < first["alignment"] < 4
    assert first["uniformity"] < 0
    other = jax.tree.map(lambda x: 1.01 * x, run.random_init)

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    assert measure(*run.random_init) == first
    measure(*other)
    assert compiled == []


def test_an_epoch_is_a_field_of_its_own_or_the_probes(config):
    assert unlabelled.every_epochs(config) == config.probe.every_epochs == 2
    config.scores_every_epochs = 5
    assert unlabelled.every_epochs(config) == 5
    config.scores_every_epochs = config.probe.every_epochs = 0
    assert unlabelled.every_epochs(config) == 0


def test_data_without_labels_are_scored_too(config, tmp_path):
    arrays = dict(np.load(config.data.path))
    np.savez(config.data.path, train_images=arrays["train_images"])
    config.stages, config.epochs = ("pretrain",), 2
    config.data.test_split = "train"
    config.probe.every_epochs, config.scores_every_epochs = 0, 1
    stages_run.run(config, str(tmp_path / "run"))
    found = [x for x in lines(tmp_path / "run") if "rankme" in x]
    assert [(x["step"], x["epoch"]) for x in found] == [(4, 1.0), (8, 2.0)]
    assert all({*unlabelled.NAMES} <= set(x) for x in found)
