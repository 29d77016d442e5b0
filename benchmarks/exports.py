"""Compares exported encoders with `encoder.embed`, in every format.

    python benchmarks/exports.py                  # ONNX and jax.export
    python benchmarks/exports.py --peer=PYTHON    # and torch_export.py

For each network it draws weights and BatchNorm statistics at random and writes the
encoder by `simclr_jax.export.formats.save`, with and without preprocessing. ONNX
Runtime, or jax from the file, computes the features of the same images. Prints the
largest difference of a feature from `embed`, in units of the features' standard
deviation over the images, and the size of the file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CASES = ((18, "cifar", 32, 32), (50, "imagenet", 224, 256))
IMAGES = 8
MOST = 1e-4


def made(depth: int, stem: str, size: int, stored: int):
    """An encoder of random weights, and uint8 images as a run stores them."""
    import jax

    from simclr_jax.encoders import ResNet
    from simclr_jax.heads import Projector
    from simclr_jax.pretrained import Encoder, Levels

    rng = np.random.default_rng(depth)
    images = rng.integers(0, 256, (IMAGES, stored, stored, 3), np.uint8)
    module = Levels(ResNet(depth=depth, stem=stem, init_scheme="pytorch"), Projector())
    given = rng.uniform(size=(IMAGES, size, size, 3)).astype(np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), given)
    # Statistics of these images, so that activations stay moderate; then no number of
    # a BatchNorm is 0 or 1, where a mistake would not show.
    train = jax.jit(
        lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"])[1]
    )
    for _ in range(30):
        variables = {**variables, **train(variables, given)}
    shaken = jax.tree.map(
        lambda x: (
            x * rng.uniform(0.8, 1.2, x.shape).astype(np.float32)
            + (0.05 if x.ndim == 1 else 0)
        ),
        variables,
    )
    about = {
        "size": size,
        "channels": 3,
        "preprocessing": {"view": "center", "stored": [stored, stored]},
    }
    return Encoder(module, shaken, about), images


def calls(form: str, path: Path):
    """The file as a function of images."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(["h"], {"images": images})[0]
    from jax import export

    program = export.deserialize(path.read_bytes())
    return lambda images: np.asarray(program.call(images)[0])


def measured(form: str, preprocessing: bool, encoder, images, folder: Path) -> dict:
    """One line of the table."""
    import jax

    from simclr_jax import augment
    from simclr_jax.export import formats

    path = folder / f"encoder.{form}"
    formats.save(path, encoder, form, preprocessing=preprocessing)
    given = images
    if not preprocessing:
        size = encoder.config["size"]
        given = np.asarray(augment.center(augment.to_float(images), size=size))
    found = calls(form, path)(given)
    wanted = encoder.embed(images)
    spread = wanted.std(axis=0).mean()
    return {
        "difference": float(f"{np.abs(found - wanted).max() / spread:.2g}"),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "jax": jax.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python with torch and torchvision")
    flags = parser.parse_args()
    worst = 0.0
    for depth, stem, size, stored in CASES:
        encoder, images = made(depth, stem, size, stored)
        for form in ("onnx", "jax"):
            for preprocessing in (True, False):
                with tempfile.TemporaryDirectory() as name:
                    line = measured(form, preprocessing, encoder, images, Path(name))
                worst = max(worst, line["difference"])
                network = f"ResNet-{depth}, stem {stem}, {stored} to {size} px"
                first = {"network": network, "format": form}
                first["preprocessing"] = preprocessing
                print(json.dumps(first | line), flush=True)
    code = int(worst > MOST)
    if flags.peer:
        script = ROOT / "benchmarks" / "torch_export.py"
        code |= subprocess.call([sys.executable, str(script), f"--peer={flags.peer}"])
    return code


if __name__ == "__main__":
    sys.exit(main())
