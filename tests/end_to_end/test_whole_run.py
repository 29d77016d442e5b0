"""A run of every stage as people meet it: what it leaves, shows and may be told."""

import re
import shutil

import numpy as np
import pytest
from tiny import ROOT, launch, recipe
from tiny_runs import block, lines, refuse, results

import simclr_jax


def test_a_run_leaves_what_was_promised(whole):
    workdir, found = whole.workdir, results(whole.workdir)
    assert {"loss", "epochs", "seconds", "images_per_second"} <= set(found["pretrain"])
    assert found["pretrain"]["epochs"] == 5
    assert 0 <= found["knn"]["top1"] <= 1
    for stage in ("probe", "finetune"):
        for variant in ("pretrained", "random_init"):
            assert {"top1", "top3"} <= set(found[stage][variant])
    assert sorted(found["probe"]["layers"]) == ["h", "head_1", "z"]
    assert found["finetune"]["label_fraction"] == 0.5
    assert {"top1", "top3"} <= set(found["supervised"])
    assert {"config", "commit", "versions", "device", "seed"} <= set(found)
    assert (found["devices"], found["processes"]) == (1, 1)
    assert found["knn"]["step"] == found["probe"]["step"] == 20
    for path in (
        "config.json",
        "report.html",
        "encoder.safetensors",
        "checkpoints/20",
        "stages/probe/pretrained/checkpoints/40",
        "stages/probe/random_init/checkpoints/40",
        "stages/finetune/pretrained/checkpoints/6",
        "stages/finetune/random_init/checkpoints/6",
        "stages/supervised/random_init/checkpoints/8",
    ):
        assert (workdir / path).exists(), path


@pytest.mark.parametrize(
    "stage, variant",
    [
        ("probe", "pretrained"),
        ("finetune", "pretrained"),
        ("finetune", "random_init"),
        ("supervised", ""),
    ],
)
def test_a_loaded_network_names_as_many_classes_rightly_as_was_recorded(
    whole, npz, stage, variant
):
    encoder = simclr_jax.load(whole.workdir, stage=stage, variant=variant)
    with np.load(npz) as archive:
        images, labels = archive["test_images"], archive["test_labels"]
    names, probabilities = encoder.predict(images)
    assert encoder.class_names == ("0", "1", "2", "3")
    recorded = results(whole.workdir)[stage]
    recorded = recorded[variant] if variant else recorded
    # To one image: the run was compiled with other optimisations.
    assert np.mean(names.astype(int) == labels) == pytest.approx(
        recorded["top1"], abs=1 / len(labels) + 1e-6
    )
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


def test_the_exported_encoder_is_the_runs(whole, npz, tmp_path):
    """Its neighbours give kNN's accuracy, by a classifier of scikit-learn's."""
    from sklearn.neighbors import KNeighborsClassifier

    encoder = simclr_jax.load(whole.workdir / "encoder.safetensors")
    of_run = simclr_jax.load(whole.workdir)
    with np.load(npz) as archive:
        data = dict(archive)
    features = {x: encoder.embed(data[f"{x}_images"]) for x in ("train", "test")}
    for split, found in features.items():
        np.testing.assert_array_equal(found, of_run.embed(data[f"{split}_images"]))
    fields = results(whole.workdir)["config"]["knn"]
    knn = KNeighborsClassifier(
        fields["k"],
        metric="cosine",
        weights=lambda distance: np.exp((1 - distance) / fields["temperature"]),
    )
    knn.fit(features["train"], data["train_labels"])
    top1 = knn.score(features["test"], data["test_labels"])
    assert top1 == pytest.approx(results(whole.workdir)["knn"]["top1"], abs=0.051)
    assert f"encoder: {whole.workdir / 'encoder.safetensors'}" in whole.stdout


def test_the_record_of_pretraining(whole):
    recorded = [x for x in lines(whole.workdir) if x["stage"] == "pretrain"]
    steps = [x for x in recorded if "loss" in x]
    assert [x["step"] for x in steps] == list(range(2, 21, 2))
    wanted = {"epoch", "loss", "lr", "contrastive_accuracy", "embedding_std"}
    assert wanted | {"online_accuracy", "variant"} <= set(steps[0])
    assert all(x["lr"] == pytest.approx(1e-3) for x in steps)
    glances = [x for x in recorded if "knn_top1" in x]
    assert [x["step"] for x in glances] == [8, 16]
    assert all("probe_top1" in x for x in glances)


def test_training_from_scratch_has_a_learning_rate_of_its_own(whole):
    rates = {
        (line["variant"], line["step"]): line["lr"]
        for line in lines(whole.workdir)
        if line["stage"] == "finetune"
    }
    assert rates["pretrained", 2] > 0
    assert rates["random_init", 2] == pytest.approx(2 * rates["pretrained", 2])


def test_the_table_shows_the_results_in_percent(whole):
    found = results(whole.workdir)
    shown = {
        "fine-tuned on 50 % of the labels": found["finetune"]["pretrained"],
        "the same from scratch": found["finetune"]["random_init"],
        "linear probe, all labels": found["probe"]["pretrained"],
        "random encoder": found["probe"]["random_init"],
        "supervised, all labels": found["supervised"],
    }
    for label, result in shown.items():
        rows = map(str.strip, whole.stdout.splitlines())
        (line,) = [x for x in rows if x.startswith(label)]
        figures = [float(x) for x in re.findall(r"\d+\.\d", line)]
        assert figures == [
            pytest.approx(100 * result[k], abs=0.051) for k in ("top1", "top3")
        ]
    # What it means, and what to do next.
    compared = r"^Pretraining .* the random encoder with a linear probe on all labels: "
    assert re.search(compared, whole.stdout, re.M)
    load = f"simclr_jax.load({str(whole.workdir)!r}).embed(['photo.jpg'])"
    assert f"in Python: import simclr_jax; {load}\n" in whole.stdout
    assert "Traceback" not in whole.stderr
    assert "images/s" in whole.stderr


def test_a_finished_run_says_so(whole, npz, tmp_path):
    workdir = shutil.copytree(whole.workdir, tmp_path / "copy")
    before = lines(workdir)
    again = launch(*recipe(npz), f"--workdir={workdir}")
    assert again.returncode == 0
    assert "done already" in again.stdout
    assert lines(workdir) == before


def test_a_workdir_belongs_to_one_recipe(whole, npz, tmp_path, capsys):
    import launch as launcher

    workdir = shutil.copytree(whole.workdir, tmp_path / "copy")
    before = (workdir / "config.json").read_text()
    flags = [*recipe(npz), f"--workdir={workdir}", "--config.batch_size=8"]
    assert launcher.main(["launch.py", *flags]) == 2
    error = capsys.readouterr().err
    assert "config.batch_size" in error
    assert "16" in error
    assert (workdir / "config.json").read_text() == before


def test_another_workdirs_encoder(whole, npz, tmp_path, capsys):
    flags = [
        *recipe(npz),
        f"--config.pretrained={whole.workdir}",
        "--config.stages=('knn',)",
    ]
    done = launch(*flags, f"--workdir={tmp_path / 'a'}")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "a")["knn"] == results(whole.workdir)["knn"]

    flags.append("--config.encoder.width=0.125")
    refuse(capsys, tmp_path / "b", flags, "config.encoder.width", "0.0625")


@pytest.mark.thorough
def test_streaming_trains_through_the_same_stages_and_tensorboard(npz, tmp_path):
    done = launch(
        *recipe(npz),
        f"--workdir={tmp_path / 'streamed'}",
        "--config.data.streaming=True",
        "--config.max_steps=3",
        "--config.tensorboard=True",
    )
    assert done.returncode == 0, done.stderr
    stages = {"pretrain", "knn", "probe", "finetune", "supervised"}
    assert stages <= set(results(tmp_path / "streamed"))
    events = sorted((tmp_path / "streamed/tensorboard").rglob("events.out.*"))
    assert {"pretrain", "finetune"} <= {
        path.relative_to(tmp_path / "streamed/tensorboard").parts[0] for path in events
    }
    assert "loss" in scalars(events)


def scalars(events):
    """The names of all scalars in these event files, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return {
        value.tag
        for path in events
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }


def test_images_without_labels_are_pretrained_on(npz, tmp_path, capsys):
    """And what would need labels is refused before anything runs."""
    with np.load(npz) as archive:
        images = {k: archive[k] for k in ("train_images", "test_images")}
    np.savez(tmp_path / "images.npz", **images)
    flags = recipe(tmp_path / "images.npz")
    pretrain = "--config.stages=('pretrain','report')"
    workdir = tmp_path / "run"
    refuse(capsys, workdir, flags, "labels")
    flags.append(pretrain)
    refuse(capsys, workdir, flags, "config.probe.every_epochs", "set it to 0")
    flags += ["--config.probe.every_epochs=0", "--config.max_steps=2"]
    done = launch(*flags, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert results(workdir)["pretrain"]["step"] == 2
    assert all("online_loss" not in line for line in lines(workdir))


@pytest.mark.thorough
def test_the_demo_recipe_starts_without_tensorflow(tmp_path):
    """Three steps of each training; TensorFlow and TFDS can't be imported.

    Compiled as people's runs are, unlike the other tests'.
    """
    blocked = block(tmp_path / "blocked", "tensorflow", "tensorflow_datasets", "clu")
    done = launch(
        f"--config={ROOT}/configs/demo.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.max_steps=3",
        "--config.stages=pretrain,finetune",
        PYTHONPATH=blocked,
        XLA_FLAGS="",
        JAX_DISABLE_MOST_OPTIMIZATIONS="0",
    )
    assert done.returncode == 0, done.stderr
    assert "fine-tuned on " in done.stdout
