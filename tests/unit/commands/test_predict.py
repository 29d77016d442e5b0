"""`launch.py predict`: the CSV of classes and probabilities."""

import csv
import io
import shutil

import numpy as np
import pytest

import launch
import simclr_jax
from simclr_jax.networks import ClassifierNetwork, Network

pytestmark = pytest.mark.usefixtures("compile_in_haste")


def main(capsys, *words):
    code = launch.main(["launch.py", "predict", *map(str, words)])
    return code, *capsys.readouterr()


def test_each_image_gets_the_most_probable_class(run, photos, tmp_path, capsys):
    code, out, error = main(capsys, run.workdir.path, photos)
    assert code == 0, error
    assert error.splitlines()[0] == "network: stage finetune, step 6"
    rows = list(csv.DictReader(io.StringIO(out)))
    names = ["blue", "green", "red", "yellow"]
    columns = ["file", "class", "probability", *(f"p_{name}" for name in names)]
    assert list(rows[0]) == columns
    # By the networks that the stages use, and softmax by hand.
    encoder = simclr_jax.load(run.workdir.path, stage="finetune")
    network = ClassifierNetwork(Network(run.encoder, run.projector), 0, 4)
    images = run.images.train.images(np.arange(24)) / np.float32(255)
    params, stats = encoder.variables["params"], encoder.variables["batch_stats"]
    logits, _ = network.logits(params, {"batch_stats": stats}, images, train=False)
    wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = np.array([[float(row[f"p_{name}"]) for name in names] for row in rows])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert [row["class"] for row in rows] == [names[k] for k in wanted.argmax(-1)]
    assert len({row["class"] for row in rows}) > 1
    highest = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(highest, wanted.max(-1), rtol=1e-4)
    assert {row["file"].split("/")[0] for row in rows} == set(names)
    file = tmp_path / "classes.csv"
    code, said, _ = main(capsys, run.workdir.path, photos, f"--out={file}")
    assert (code, said) == (0, f"classes: {file} (24 images)\n")
    assert file.read_text() == out


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize("wrong", ["RUN", "IMAGES", "--out"])
def test_a_path_that_the_system_refuses_is_a_wrong_request(
    run, photos, tmp_path, capsys, command, wrong
):
    long = str(tmp_path / ("n" * 300))
    words = {"RUN": str(run.workdir.path), "IMAGES": str(photos)}
    words |= {"--out": f"--out={long}"} if wrong == "--out" else {wrong: long}
    if wrong != "--out" and command == "embed":
        words["--out"] = f"--out={tmp_path / 'embeddings.npz'}"
    code = launch.main(["launch.py", command, *words.values()])
    assert code == 2
    assert "File name too long" in capsys.readouterr().err.splitlines()[-1]


def test_without_a_classifier_it_says_where_it_looked(run, photos, tmp_path, capsys):
    shutil.copytree(run.workdir.path / "checkpoints", tmp_path / "run" / "checkpoints")
    code, out, error = main(capsys, tmp_path / "run", photos)
    assert (code, out) == (2, "")
    assert error == (
        f"error: RUN: no stage in {tmp_path / 'run'} has trained a classifier; looked "
        "for finetune, probe, supervised, distill\n"
    )
    code, _, error = main(capsys, run.workdir.path, photos, "--stage=pretrain")
    assert code == 2
    assert "has no classifier; name a stage that trained on labels" in error
    file = tmp_path / "encoder.safetensors"
    simclr_jax.load(run.workdir.path).save(file)
    assert "has no classifier" in main(capsys, file, photos)[2]
    code, _, error = main(capsys, tmp_path / "nothing", photos)
    assert (code, error) == (
        2,
        f"error: RUN: there is no run or file {tmp_path}/nothing\n",
    )


def test_a_file_of_a_classifier_predicts(run, photos, tmp_path, capsys):
    file = tmp_path / "classifier.safetensors"
    simclr_jax.load(run.workdir.path, stage="finetune").save(file)
    by_file, by_run = (main(capsys, x, photos)[1] for x in (file, run.workdir.path))
    assert by_file == by_run


def test_help(capsys):
    code, out, error = main(capsys, "-h")
    assert (code, error) == (0, "")
    assert out.startswith("usage: python launch.py predict")
