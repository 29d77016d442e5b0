"""`launch.py export`, and stage `export`, which writes the same files."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from tiny import ROOT, squares

import launch
import simclr_jax
from simclr_jax.export import formats
from simclr_jax.export import torch as torch_format

pytestmark = pytest.mark.usefixtures("compile_in_haste")

IMAGES, _ = squares(5, 3)
needs_flatbuffers = pytest.mark.skipif(
    bool(formats.missing("jax")), reason="flatbuffers is not installed"
)


def main(capsys, *words):
    code = launch.main(["launch.py", *map(str, words)])
    return code, *capsys.readouterr()


def by_jax(path, images=IMAGES):
    return [
        np.asarray(x) for x in jax.export.deserialize(path.read_bytes()).call(images)
    ]


def test_weights_in_two_formats(run, tmp_path, capsys):
    file = tmp_path / "own.safetensors"
    code, out, error = main(capsys, "export", run.workdir.path, file)
    assert (code, out) == (0, f"encoder: {file}\n")
    assert error == "network: stage pretrain, step 20\n"
    encoder = simclr_jax.load(run.workdir.path)
    np.testing.assert_array_equal(
        simclr_jax.load(file).embed(IMAGES), encoder.embed(IMAGES)
    )
    # A file can be converted, too.
    other = tmp_path / "torch.safetensors"
    code, out, error = main(capsys, "export", file, other, "--format=torch")
    assert (code, out) == (0, f"encoder: {other}\n")
    own = "no class for this network (depth 10, width 0.0625, stem cifar)"
    assert own in error.splitlines()[-1]
    from safetensors.numpy import load_file

    wanted, found = torch_format.state_dict(encoder), load_file(other)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@needs_flatbuffers
def test_a_program_of_a_classifier(run, tmp_path, capsys):
    file = tmp_path / "classifier.jax"
    words = ("export", run.workdir.path, file, "--format=jax", "--stage=finetune")
    assert main(capsys, *words)[0] == 0
    encoder = simclr_jax.load(run.workdir.path, stage="finetune")
    h, probabilities = by_jax(file)
    np.testing.assert_allclose(h, encoder.embed(IMAGES), rtol=1e-4)
    np.testing.assert_allclose(probabilities, encoder.predict(IMAGES)[1], atol=1e-4)
    assert main(capsys, *words, "--no_preprocessing", "--level=h")[0] == 0
    h, _ = by_jax(file, IMAGES / np.float32(255))
    np.testing.assert_allclose(h, encoder.embed(IMAGES), rtol=1e-4)


@pytest.mark.skipif(
    bool(formats.missing("onnx")), reason=f"{formats.missing('onnx')} is not installed"
)
def test_an_onnx_model(run, tmp_path, capsys):
    """jax2onnx prints and logs much; nobody who exports has to read it."""
    import onnxruntime

    file = tmp_path / "encoder.onnx"
    words = ("export", run.workdir.path, file, "--format=onnx", "--level=z")
    code, out, error = main(capsys, *words)
    assert (code, out) == (0, f"encoder: {file}\n")
    assert error == "network: stage pretrain, step 20\n"
    session = onnxruntime.InferenceSession(file)
    (found,) = session.run(["z"], {"images": IMAGES})
    wanted = simclr_jax.load(run.workdir.path).embed(IMAGES, "z")
    np.testing.assert_allclose(found / wanted.std(), wanted / wanted.std(), atol=1e-4)


def test_wrong_requests_are_one_line(run, tmp_path, capsys, monkeypatch):
    workdir = run.workdir.path

    def refused(*words):
        code, out, error = main(capsys, "export", *words)
        assert (code, out) == (2, "")
        return error.splitlines()[-1]

    file = tmp_path / "x"
    line = refused(workdir, file, "--format=tflite")
    assert line.startswith("error: argument --format: invalid choice: 'tflite'")
    assert "torch holds weights" in refused(
        workdir, file, "--format=torch", "--no_preprocessing"
    )
    assert "no/x: there is no folder" in refused(workdir, tmp_path / "no/x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = refused(workdir, file, "--format=onnx")
    assert line.startswith("error: --format: onnx needs the package jax2onnx; in the")
    assert line.endswith("'.[export]'")
    assert not file.exists()


@pytest.fixture
def stage(run, photos, tmp_path, capsys):
    """Runs stage `export` alone, by a recipe with another network."""

    def stage(*flags, code=0):
        words = [
            f"--config={ROOT}/configs/folder.py",
            f"--config.pretrained={run.workdir.path}",
            "--config.stages=export",
            f"--config.data.path={photos}",
            "--config.data.test_split=train",
            f"--workdir={tmp_path / 'run'}",
            *flags,
        ]
        found = main(capsys, *words)
        assert found[0] == code, found[2]
        return found[1] if code == 0 else found[2].splitlines()[-1]

    return stage


@needs_flatbuffers
def test_the_stage_writes_each_format_once(run, stage, tmp_path):
    formats = "--config.export.formats=('safetensors','torch','jax')"
    out = stage(formats)
    folder = tmp_path / "run"
    names = ["encoder.safetensors", "torchvision.safetensors", "encoder.jax"]
    files = [folder / name for name in names]
    assert [x for x in out.splitlines() if x.startswith("encoder: ")] == [
        f"encoder: {file}" for file in files
    ]
    wanted = simclr_jax.load(run.workdir.path).embed(IMAGES)
    np.testing.assert_array_equal(simclr_jax.load(files[0]).embed(IMAGES), wanted)
    np.testing.assert_allclose(by_jax(files[2])[0], wanted, rtol=1e-4)
    before = [file.stat().st_mtime_ns for file in files]
    stage(formats)
    assert [file.stat().st_mtime_ns for file in files] == before
    # What it takes has changed, or the file is gone.
    files[1].unlink()
    stage(formats, "--config.export.preprocessing=False")
    assert files[0].stat().st_mtime_ns == before[0]
    assert files[1].exists()
    floats = IMAGES / np.float32(255)
    np.testing.assert_allclose(by_jax(files[2], floats)[0], wanted, rtol=1e-4)
    written = json.loads((folder / "stages/export/written.json").read_text())
    assert written["jax"] == {"step": 20, "preprocessing": False}


def test_what_the_stage_cannot_write_is_said_before_it_runs(stage, monkeypatch):
    line = stage("--config.export.formats=('tflite',)", code=2)
    assert line.startswith("error: config.export.formats: ('tflite',) is not a tuple")
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "jax2onnx" else there(name, *rest),
    )
    line = stage("--config.export.formats=('onnx',)", code=2)
    assert line.startswith("error: config.export.formats: onnx needs the package jax2")
