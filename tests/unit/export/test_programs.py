"""Programs of others: ONNX and jax.export compute what `embed` computes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import ROOT

from simclr_jax.encoders import ResNet
from simclr_jax.errors import FailedError
from simclr_jax.export import formats, onnx, stablehlo
from simclr_jax.heads import Classifier, Projector
from simclr_jax.pretrained import Encoder, Levels

pytestmark = pytest.mark.usefixtures("compile_in_haste")

needs_onnx = pytest.mark.skipif(
    bool(formats.missing("onnx")), reason=f"{formats.missing('onnx')} is not installed"
)
needs_flatbuffers = pytest.mark.skipif(
    bool(formats.missing("jax")), reason="flatbuffers is not installed"
)
RNG = np.random.default_rng(0)


def made(stored=(16, 16), classes=0, channels=3, **options):
    """An encoder of random weights, none of them 0 or 1."""
    options = {"depth": 10, "width": 0.125, "stem": "cifar"} | options
    module = Levels(
        ResNet(**options, init_scheme="pytorch"),
        Projector(dim=8),
        Classifier(classes) if classes else None,
        0 if classes else None,
    )
    images = RNG.uniform(size=(4, 16, 16, channels)).astype(np.float32)

    def init():
        def run(network, images):
            levels = network(images)
            return network.classifier(levels["h"]) if classes else levels

        return module.init(jax.random.key(0), images, method=run)

    variables = jax.tree.map(
        lambda x: (
            x * RNG.uniform(0.8, 1.2, x.shape).astype(np.float32)
            + 0.1 * RNG.normal(size=x.shape).astype(np.float32) * (x.ndim == 1)
        ),
        jax.jit(init)(),
    )
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    about = {
        "size": 16,
        "channels": channels,
        "preprocessing": {"view": "center", "stored": stored and list(stored)},
        "class_names": [str(k) for k in range(classes)],
        "stage": "finetune" if classes else "pretrain",
    }
    return Encoder(module, variables, about)


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def by_onnx(path, images):
    """{name: array}; checks the model as the format's own library does."""
    import onnx as library

    library.checker.check_model(library.load(path), full_check=True)
    opened = session(path)
    (given,) = opened.get_inputs()
    assert given.name == "images"
    names = [x.name for x in opened.get_outputs()]
    found = opened.run(None, {"images": images})
    return dict(zip(names, found, strict=True))


def by_jax(path, images):
    """In a process that has jax and nothing of ours, and no flax."""
    np.save(path.with_suffix(".npy"), images)
    script = (
        "import sys\n"
        "sys.modules['simclr_jax'] = sys.modules['flax'] = None\n"
        "import jax, numpy as np\n"
        f"program = jax.export.deserialize(open({str(path)!r}, 'rb').read())\n"
        "assert program.platforms == ('cpu', 'cuda'), program.platforms\n"
        f"outputs = program.call(np.load({str(path.with_suffix('.npy'))!r}))\n"
        f"np.savez({str(path.with_suffix('.npz'))!r}, *outputs)\n"
    ).replace("import jax,", "import jax, jax.export,")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(path.with_suffix(".npz")) as archive:
        return dict(zip(("h", "probabilities"), archive.values(), strict=False))


def close(found, wanted):
    np.testing.assert_allclose(found / wanted.std(), wanted / wanted.std(), atol=1e-4)


CASES = [
    pytest.param(onnx.save, by_onnx, marks=needs_onnx, id="onnx"),
    pytest.param(stablehlo.save, by_jax, marks=needs_flatbuffers, id="jax"),
]


@pytest.mark.parametrize("save, compute", CASES)
def test_with_preprocessing_it_takes_what_the_run_stored(tmp_path, save, compute):
    """Any number of uint8 images; they are cropped and resized as by `embed`."""
    encoder = made(stored=(24, 20), stem="imagenet")
    save(tmp_path / "encoder", encoder)
    images = RNG.integers(0, 256, (5, 24, 20, 3), np.uint8)
    found = compute(tmp_path / "encoder", images)
    assert list(found) == ["h"]
    close(found["h"], encoder.embed(images))


@pytest.mark.parametrize("save, compute", CASES)
def test_without_it_takes_floats_of_the_networks_size(tmp_path, save, compute):
    """Of a classifier of grey images: also its probabilities."""
    encoder = made(stored=(24, 20), classes=3, channels=1)
    save(tmp_path / "encoder", encoder, preprocessing=False)
    images = RNG.integers(0, 256, (2, 16, 16, 1), np.uint8)
    found = compute(tmp_path / "encoder", images / np.float32(255))
    assert list(found) == ["h", "probabilities"]
    close(found["h"], encoder.embed(images))
    np.testing.assert_allclose(
        found["probabilities"], encoder.predict(images)[1], atol=1e-5
    )


@needs_onnx
@pytest.mark.parametrize("depth, stem", [(50, "cifar"), (18, "imagenet")])
def test_onnx_has_both_blocks_and_stems(tmp_path, depth, stem):
    """Of a run in bfloat16, whose model computes in float32."""
    encoder = made(depth=depth, stem=stem, dtype="bfloat16")
    onnx.save(tmp_path / "encoder", encoder, level="z")
    images = RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)
    (found,) = by_onnx(tmp_path / "encoder", images).values()
    module = encoder.module.clone(encoder=encoder.module.encoder.clone(dtype="float32"))
    exact = Encoder(module, encoder.variables, encoder.config)
    close(found, exact.embed(images, "z"))


@needs_onnx
def test_the_converter_leaves_jax_and_flax_as_they_were(tmp_path):
    """It replaces their functions while it traces; what is traced later is ours."""
    encoder = made(stem="imagenet", classes=3)
    images = np.zeros((2, 16, 16, 3), np.float32)

    def traced():
        logits = jax.make_jaxpr(
            lambda x: encoder.module.apply(encoder.variables, x, method="logits")
        )
        return str(logits(images)), str(jax.make_jaxpr(encoder._view)(images))

    before = traced()
    onnx.save(tmp_path / "encoder", encoder)
    assert traced() == before


@needs_onnx
def test_the_onnx_file_describes_the_network(tmp_path):
    encoder = made(stored=None)
    onnx.save(tmp_path / "encoder", encoder)
    metadata = session(tmp_path / "encoder").get_modelmeta().custom_metadata_map
    assert {k: json.loads(v) for k, v in metadata.items()} == encoder.config
    assert session(tmp_path / "encoder").get_inputs()[0].shape == ["B", 16, 16, 3]


@pytest.mark.thorough
@needs_onnx
@pytest.mark.slow
def test_the_model_is_compared_under_launch_pys_flags_too(tmp_path):
    """With them, on a CPU, XLA got the softmax of logits wrong that it had folded from
    constant weights, and a right model was refused."""
    script = (
        "from simclr_jax import startup\n"
        "startup.set_cpu_flags()\n"
        "import test_programs\n"
        "encoder = test_programs.made(stored=(24, 24), classes=3, channels=1)\n"
        f"test_programs.onnx.save({str(tmp_path / 'encoder')!r}, encoder)\n"
    )
    paths = [str(Path(__file__).parent), str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "encoder").exists()


@needs_onnx
def test_a_model_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    import jax2onnx

    convert = jax2onnx.to_onnx

    def wrong(run, *args, **kwargs):
        return convert(lambda x: tuple(1.001 * y for y in run(x)), *args, **kwargs)

    monkeypatch.setattr(jax2onnx, "to_onnx", wrong)
    with pytest.raises(FailedError, match="the ONNX model's h differs from jax's by"):
        onnx.save(tmp_path / "encoder", made())
    assert not list(tmp_path.iterdir())


@needs_flatbuffers
def test_selective_kernels_are_for_jax_alone(tmp_path):
    encoder = made(sk=True, stem="imagenet")
    with pytest.raises(ValueError, match="selective kernels"):
        onnx.save(tmp_path / "encoder.onnx", encoder)
    stablehlo.save(tmp_path / "encoder.jax", encoder)
    images = RNG.integers(0, 256, (2, 16, 16, 3), np.uint8)
    exported = jax.export.deserialize((tmp_path / "encoder.jax").read_bytes())
    close(np.asarray(exported.call(images)[0]), encoder.embed(images))


def test_levels_that_are_not_there_are_named(tmp_path):
    for save in (onnx.save, stablehlo.save):
        with pytest.raises(ValueError, match="'head_7' is not one of h, head_1, z"):
            save(tmp_path / "encoder", made(), level="head_7")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = {name: formats.missing(name) for name in formats.FORMATS}
    assert found == {
        "safetensors": "safetensors",
        "torch": "safetensors",
        "onnx": "jax2onnx",
        "jax": "flatbuffers",
    }
