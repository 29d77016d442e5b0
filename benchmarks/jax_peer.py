"""Times our train steps beside those of stable-pretraining's JAX backend.

    pip install --no-deps --target=PEER stable-pretraining==0.1.8 loguru
    python benchmarks/jax_peer.py --peer=PEER
    python benchmarks/jax_peer.py --peer=PEER --methods=simclr,byol --rounds=7

Both train the same network (ResNet-18 with CIFAR's stem, float32, heads of the same
widths) with optax's Adam on two given views of 32 px, in one process with the same XLA
flags and in alternating turns. The ratio is its time over ours in the same turn: above
1 we are faster. What differs by design stays: our heads have BatchNorm, we donate the
state, and its BYOL moves the target in a callback, which is timed with its step.

Its package imports PyTorch and Lightning, its JAX part does not. So the JAX part is
imported without them. Prints JSON lines, one per method, then a table.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from simclr_jax import startup  # noqa: E402

if __name__ == "__main__":
    startup.use_huge_pages()
startup.set_cpu_flags()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from timing import compared  # noqa: E402

from simclr_jax import methods  # noqa: E402
from simclr_jax import training as train  # noqa: E402
from simclr_jax.encoders import ResNet  # noqa: E402
from simclr_jax.heads import Predictor, Projector  # noqa: E402

SIZE, RATE = 32, 1e-3
# The widths of the projector's layers, and of the predictor's hidden one.
HEADS = {
    "simclr": ((512, 128), None),
    "byol": ((512, 128), 512),
    "simsiam": ((512, 512, 512), 128),
    "barlow_twins": ((1024, 1024, 1024), None),
    "vicreg": ((1024, 1024, 1024), None),
}
Views = tuple[jax.Array, jax.Array]
Turn = Callable[[int], float]  # takes so many steps; returns the last loss


def ours(name: str, views: Views) -> Turn:
    """Our step on the same two views again and again."""
    widths, hidden = HEADS[name]
    projector = Projector(layers=len(widths), hidden=widths[0], dim=widths[-1])
    heads: dict[str, Any] = {"projector": projector}
    if hidden:
        heads["predictor"] = Predictor(hidden=hidden)
    count, key, tx = len(views[0]), jax.random.key(0), optax.adam(RATE)
    method = methods.make(name, ResNet(18, stem="cifar"), num_examples=count, **heads)
    batch = {"index": jnp.arange(count), "views": views}

    def loss(params, state, key, batch):
        return method.loss(params, state, key, batch["views"], batch["index"])

    def update(params, model_state, step):
        return method.update(params, model_state, step / 1000)

    step = train.make_step(loss, tx, update)
    state = jax.jit(lambda: train.init_state(*method.init(key, views[0][:2]), tx))()

    def run(steps: int) -> float:
        nonlocal state
        metrics: dict[str, Any] = {}
        for _ in range(steps):
            state, metrics = step(state, key, batch)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    return run


def peer(name: str, views: Views) -> Turn:
    """The peer's step on the same two views again and again."""
    from stable_pretraining import jax as peer_jax

    kinds = {
        "simclr": peer_jax.SimCLR,
        "byol": peer_jax.BYOL,
        "simsiam": peer_jax.SimSiam,
        "barlow_twins": peer_jax.BarlowTwins,
        "vicreg": peer_jax.VICReg,
    }
    widths, hidden = HEADS[name]
    options: dict[str, Any] = {"projector_dims": widths, "embed_dim": 512}
    if hidden:
        options["predictor_hidden" if name == "byol" else "predictor_dim"] = hidden
    rngs = nnx.Rngs(0)
    backbone = peer_jax.backbone.resnet18(rngs=rngs, low_resolution=True)
    module = kinds[name](backbone=backbone, rngs=rngs, **options)
    optimizer = nnx.Optimizer(module, optax.adam(RATE), wrt=nnx.Param)
    target = peer_jax.TeacherStudentCallback() if name == "byol" else None
    batch = {"views": [{"image": view} for view in views]}

    def run(steps: int) -> float:
        outputs: dict[str, Any] = {}
        for number in range(steps):
            outputs, _ = peer_jax.trainer._train_step(module, optimizer, batch)
            if target:
                target.on_train_batch_end(None, module, outputs, batch, number)
        jax.block_until_ready((nnx.state(module), nnx.state(optimizer)))
        return float(outputs["loss"])

    return run


def seconds(run: Turn, steps: int) -> float:
    """The time of a step."""
    begin = time.perf_counter()
    run(steps)
    return (time.perf_counter() - begin) / steps


def measure(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Both sides of one method, in turns of as many steps as take us three seconds."""
    noise = np.random.default_rng(0).uniform(size=(2, batch, SIZE, SIZE, 3))
    views = (jnp.float32(noise[0]), jnp.float32(noise[1]))
    sides = {"ours": ours(name, views), "peer": peer(name, views)}
    result: dict[str, Any] = {"method": name, "batch": batch, "rounds": rounds}
    for side, run in sides.items():
        result[f"{side}_first_s"] = seconds(run, 1)  # compiles
    steps = max(1, round(3 / seconds(sides["ours"], 1)))
    seconds(sides["peer"], 1)
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for number in range(rounds):
        for side in sorted(sides, reverse=number % 2 == 1):  # who begins alternates too
            times[side].append(seconds(sides[side], steps))
    result["images_per_s"] = batch / statistics.median(times["ours"])
    return result | compared(batch, times["ours"], times["peer"])


def find(folder: str) -> str:
    """Lets the peer's JAX part be imported alone; returns the peer's version."""
    found = [x for x in distributions(path=[folder]) if x.name == "stable-pretraining"]
    if not found:
        raise SystemExit(f"--peer: stable-pretraining is not in {folder}")
    package = types.ModuleType("stable_pretraining")
    package.__path__ = [str(Path(folder) / "stable_pretraining")]
    sys.modules["stable_pretraining"] = package
    sys.path.append(folder)
    return found[0].version


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| method | ours, images/s | stable-pretraining's | its time over ours |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["ratio_range"]
        lines.append(
            f"| {row['method']} | {row['images_per_s']:.1f} "
            f"| {row['peer_images_per_s']:.1f} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="the folder pip put it in")
    parser.add_argument("--methods", default=",".join(HEADS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    version = find(options.peer)
    rows = []
    for name in options.methods.split(","):
        rows.append(measure(name, options.batch, options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    device = jax.devices()[0].device_kind
    versions = {"jax": jax.__version__, "stable-pretraining": version}
    print(f"\n{device}, {os.cpu_count()} cores, {platform.machine()}, {versions}")
    print(f"XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
