"""The stages knn and probe, and both during pretraining, on a small run."""

from functools import partial

import jax
import numpy as np
import pytest
import tiny_recipe
from tiny import write_npz

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.report import gallery, table
from simclr_jax.stages.knn import knn
from simclr_jax.stages.probe import glance, probe

pytestmark = pytest.mark.usefixtures("compile_in_haste")


@pytest.fixture
def run(tmp_path):
    """A run on 64 training and 40 test images whose encoder learnt nothing."""
    config = tiny_recipe.get_config()
    config.data.path = str(write_npz(tmp_path / "squares.npz"))
    config.probe.epochs = 3
    workdir = Workdir(tmp_path / "run", config).open()
    run = Experiment(config, workdir, open_dataset(config).info)
    run.__dict__["pretrained"] = (20, *jax.tree.map(lambda x: 1.1 * x, run.random_init))
    yield run
    workdir.close()


@pytest.fixture
def pushed(run):
    """How many images went through which network, in the order of time."""
    seen, features = [], run.features

    def count(params, model_state, source, levels=None, **options):
        network = "random" if params is run.random_init[0] else "pretrained"
        seen.append((network, source.num_examples))
        return features(params, model_state, source, levels, **options)

    run.features = count
    return seen


def test_knn_probe_and_report_push_each_image_once(run, pushed):
    knn(run)
    assert pushed == [("pretrained", 64), ("pretrained", 40)]
    probe(run)
    gallery._compute(run)
    assert pushed[2:] == [("random", 64), ("random", 40)]


def test_a_probe_of_few_labels_embeds_those_alone(run, pushed):
    run.config.probe.label_fraction = 0.5
    probe(run)
    assert sorted(pushed) == [
        (n, k) for n in ("pretrained", "random") for k in (32, 40)
    ]


def test_what_is_kept_is_bounded(run, pushed, monkeypatch):
    """And what is not kept is computed again, with the same result."""
    fits = knn(run), probe(run)
    run.workdir.forget("probe", "pretrained")
    run.workdir.forget("probe", "random_init")
    del run.__dict__["_kept"]
    monkeypatch.setattr("simclr_jax.experiment.experiment.MOST_BYTES", 0)
    pushed.clear()
    assert (knn(run), probe(run)) == fits
    assert pushed.count(("pretrained", 64)) == 2
    assert run._kept._kept == {}


def test_a_second_probe_has_its_own_rules_checkpoints_and_rows(run):
    second = run.config.probe.second
    second.run, second.epochs, second.batch_size = True, 2, 32
    found = probe(run)
    assert set(found["second"]) == {"pretrained", "random_init", "layers"}
    assert set(found["second"]["layers"]) == {"h", "head_1", "z"}
    assert found["second"]["layers"]["h"] == found["second"]["pretrained"]["top1"]
    folders = {path.name for path in (run.workdir.path / "stages/probe").iterdir()}
    networks = {"pretrained", "random_init"}
    assert folders == networks | {f"{name}_second" for name in networks}
    lines = [x for x in run.workdir.metrics() if x["variant"] == "pretrained_second"]
    assert [(x["step"], x["epoch"], x["lr"]) for x in lines] == [
        (2, 1.0, pytest.approx(1e-3)),
        (4, 2.0, pytest.approx(1e-3)),
    ]
    shown = table.rows({"probe": found}, run.config)
    assert [(row.label, row.where) for row in shown[-2:]] == [
        ("linear probe of raw features, all labels", "probe.second.pretrained"),
        ("  random encoder", "probe.second.random_init"),
    ]
    # The first probe does not notice it.
    second.run = False
    for name in networks:
        run.workdir.forget("probe", name)
    assert probe(run) == {k: v for k, v in found.items() if k != "second"}


def test_an_untrained_encoder_with_statistics_of_images(run):
    params, model_state = run.untrained
    assert params is run.random_init[0]
    assert model_state is run.random_init[1]
    del run.__dict__["untrained"]
    run.config.probe.calibrate = True
    params, model_state = run.untrained
    assert params is run.random_init[0]
    new, old = model_state["batch_stats"], run.random_init[1]["batch_stats"]
    assert jax.tree.structure(new) == jax.tree.structure(old)
    stem, before = (x["encoder"]["stem_bn"] for x in (new, old))
    assert np.array_equal(before["var"], np.ones(4))
    assert not np.allclose(stem["var"], before["var"], atol=0.3)
    features, _ = run.own_features("random_init", "train")
    plain, _ = run.features(*run.random_init, run.images.train)
    assert features["z"].std() > 2 * plain["z"].std()


def test_a_second_evaluation_in_pretraining_compiles_nothing(run):
    compiled, params = [], run.random_init
    listen = partial(_append, compiled)
    jax.monitoring.register_event_duration_secs_listener(listen)
    glance(run, *params)
    assert compiled
    other = jax.tree.map(lambda x: 1.01 * x, params)
    compiled.clear()
    assert set(glance(run, *other)) == {"knn_top1", "probe_top1", "probe_top3"}
    assert compiled == []


def _append(compiled, event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(duration)


def test_pretraining_and_the_stages_score_alike(run):
    """On the device or the host, the scores of one encoder are the same."""
    scores = glance(run, *run.random_init)
    run.__dict__["pretrained"] = (20, *run.random_init)
    assert scores["knn_top1"] == knn(run)["top1"]
    levels = probe(run)["pretrained"]
    assert scores["probe_top1"] == pytest.approx(levels["top1"], abs=1 / 40)
