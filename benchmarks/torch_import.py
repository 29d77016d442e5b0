"""Reads weights of torchvision's ResNets and compares the features.

    python benchmarks/torch_import.py    # with torch and torchvision beside jax

Each network gets random weights and BatchNorm statistics of random images. PyTorch
writes it as MoCo's checkpoints are (`module.encoder_q.*` beside `module.encoder_k.*`);
`simclr_jax.export.weights` reads the file. Prints the largest difference of a feature,
in units of the features' standard deviation over the images.
"""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[1]
CASES = ((18, 96), (34, 97), (50, 96), (101, 64))
MOST = 1e-4


def drawn(depth: int, images: np.ndarray):
    """torchvision's network in eval mode, no number of a BatchNorm being 0 or 1."""
    import torch
    import torch_resnet

    torch.manual_seed(depth)
    model = torch_resnet.resnet(depth)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.8, 1.2)
        model.train()
        for _ in range(30):
            model(batch)
        return model.eval(), model(batch).numpy()


def main() -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import torch

    from simclr_jax.encoders import ResNet
    from simclr_jax.export import weights

    worst = 0.0
    for depth, size in CASES:
        rng = np.random.default_rng(depth)
        images = rng.uniform(size=(8, size, size, 3)).astype(np.float32)
        model, theirs = drawn(depth, images)
        state = model.state_dict()
        named = {f"module.encoder_q.{k}": x for k, x in state.items()}
        named |= {f"module.encoder_k.{k}": x + 1 for k, x in state.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "moco.pth.tar"
            torch.save({"epoch": 200, "state_dict": named}, path)
            found = weights.read(path)
        encoder = ResNet(**found.about["encoder"])
        own = {key: tree["encoder"] for key, tree in found.variables.items()}
        h = np.asarray(
            jax.jit(lambda v, x, e=encoder: e.apply(v, x, False))(own, images)
        )
        spread = theirs.std(axis=0).mean()
        difference = np.abs(h - theirs).max() / spread
        worst = max(worst, difference)
        line = {
            "network": f"ResNet-{depth}, {size} px",
            "difference": float(f"{difference:.2g}"),
            "mean": round(float(theirs.mean()), 4),
            "spread": round(float(spread), 4),
            "torch": torch.__version__,
        }
        print(json.dumps(line), flush=True)
    return int(not worst <= MOST)


if __name__ == "__main__":
    sys.exit(main())
