"""Loads exported encoders into torchvision's ResNets and compares their features.

    python benchmarks/torch_export.py --peer=PYTHON    # which has torch and torchvision

For each network it draws weights and BatchNorm statistics at random, writes them by
`simclr_jax.export.torch.save`, and has the peer read that file by the definition of the
format, load it with `strict=True`, and encode the same images. Prints the largest
difference of a feature, in units of the features' standard deviation over the images.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
CASES = (
    (18, "imagenet", 96),
    (18, "cifar", 32),
    (50, "imagenet", 96),
    (50, "cifar", 32),
)
MOST = 1e-4


def ours(folder: Path, depth: int, stem: str, size: int) -> np.ndarray:
    """Writes the encoder and images into the folder; returns h [8, D]."""
    sys.path.insert(0, str(ROOT))
    import jax
    import jax.numpy as jnp

    from simclr_jax.encoders import ResNet
    from simclr_jax.export import torch as export
    from simclr_jax.heads import Projector
    from simclr_jax.pretrained import Encoder, Levels

    rng = np.random.default_rng(depth)
    images = rng.uniform(size=(8, size, size, 3)).astype(np.float32)
    module = Levels(ResNet(depth=depth, stem=stem, init_scheme="pytorch"), Projector())
    variables = jax.jit(module.init)(jax.random.key(0), jnp.asarray(images[:2]))
    # Statistics of these images, so that activations stay moderate; then no number of
    # a BatchNorm is 0 or 1, where a mistake would not show.
    train = jax.jit(
        lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"])[1]
    )
    for _ in range(30):
        variables = {**variables, **train(variables, images[:4])}
    shaken = jax.tree.map(
        lambda x: (
            x * rng.uniform(0.8, 1.2, x.shape).astype(np.float32)
            + (0.05 if x.ndim == 1 else 0)
        ),
        variables,
    )
    encoder = Encoder(module, shaken, {"size": size})
    export.save(folder / "encoder.safetensors", encoder)
    np.save(folder / "images.npy", images)
    return np.asarray(jax.jit(encoder.apply)(images)["h"])


def theirs(folder: Path, depth: int, stem: str) -> None:
    """What the peer does: encodes the images by the file."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torch
    import torch_resnet

    content = (folder / "encoder.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    del entries["__metadata__"]
    types = {"F32": np.float32, "I64": np.int64}
    tensors = {}
    for name, entry in entries.items():
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(content[first:last], types[entry["dtype"]]).copy()
        tensors[name] = torch.from_numpy(array.reshape(entry["shape"]))
    model = torch_resnet.resnet(depth)
    if stem == "cifar":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    model.load_state_dict(tensors, strict=True)
    images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.save(folder / "h.npy", model.eval()(images).numpy())
    print(f"torch {torch.__version__}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python with torch and torchvision")
    parser.add_argument("--theirs", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.theirs:
        folder, depth, stem = flags.theirs
        theirs(Path(folder), int(depth), stem)
        return 0
    if not flags.peer:
        parser.error("--peer is missing")
    worst = 0.0
    for depth, stem, size in CASES:
        with tempfile.TemporaryDirectory() as name:
            h = ours(Path(name), depth, stem, size)
            command = [flags.peer, __file__, "--theirs", name, str(depth), stem]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            other = np.load(Path(name) / "h.npy")
        spread = other.std(axis=0).mean()
        difference = np.abs(h - other).max() / spread
        worst = max(worst, difference)
        line = {
            "network": f"ResNet-{depth}, stem {stem}, {size} px",
            "difference": float(f"{difference:.2g}"),
            "mean": round(float(other.mean()), 4),
            "spread": round(float(spread), 4),
            "peer": done.stdout.strip(),
        }
        print(json.dumps(line), flush=True)
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
