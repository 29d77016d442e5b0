"""Times train steps, whole and in parts, on the device at hand, next to a peer's.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --cases=r18_quarter --rounds=7
    python benchmarks/throughput.py --peer=PYTHON    # which has torch and lightly
    python benchmarks/throughput.py --gpu --peer=PYTHON

Prints JSON lines, one per case of cases.py, then a table. `train` is the whole step as
launch.py runs it: gather the images on the device, augment, encode, loss, gradients,
Adam. `step` is the same on two given batches. Parts are timed alone, so they need not
add up. With --peer, lightly's SimCLR in PyTorch (peer_simclr.py) trains the same
architecture on the same images, in alternating turns. The ratio is its time over ours
in the same turn: above 1 we are faster. FLOPs are three times those of the forward
pass. `share` is their share of the device's peak, for a CPU of its measured float32
matrix product.

On a GPU (--gpu) only our `train` is timed, and the peer's `step`, plain and with
torch.compile: our augmentation counts against us. Its `train`, which loads images with
all cores, is timed for one case. Each figure is printed as soon as it is there, ours
first, then the peer's `step`, then what takes long (throughput_gpu.py).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from simclr_jax import startup  # noqa: E402

if __name__ == "__main__":
    startup.use_huge_pages()
startup.set_cpu_flags()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

sys.path.insert(0, str(ROOT / "benchmarks"))

import cases as cases_lib  # noqa: E402
import throughput_gpu  # noqa: E402
from cases import CASES, Ours  # noqa: E402
from peer import Peer  # noqa: E402
from throughput_tables import gpu_table, table  # noqa: E402
from timing import (  # noqa: E402
    compared,
    compile_step,
    milliseconds,
    rates,
    seconds,
)

from simclr_jax import losses  # noqa: E402


def parts(ours: Ours, rounds: int) -> dict[str, float]:
    """Milliseconds of each part of the step."""
    state = ours.start()
    z = jax.random.normal(ours.key, (2, ours.batch, 128))
    index = jnp.arange(ours.batch)

    def forward(params, model_state, views):
        return ours.method.loss(params, model_state, ours.key, views, index)

    def backward(params, model_state, views):
        return jax.grad(forward, has_aux=True)(params, model_state, views)

    def loss(z):
        return jax.value_and_grad(lambda z: losses.nt_xent(*z).mean())(z)

    def update(params, opt_state):
        updates, opt_state = ours.tx.update(params, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    network = (state.params, state.model_state, ours.views)
    calls: dict[str, Any] = {
        "augment": (ours.augment, (ours.key, ours.images[: ours.batch])),
        "forward": (forward, network),
        "forward_backward": (backward, network),
        "loss": (loss, (z,)),
        "update": (update, (state.params, state.opt_state)),
    }
    return {name: milliseconds(*call, rounds) for name, call in calls.items()}


def measure(name: str, rounds: int, peer: Peer | None, folder: str) -> dict[str, Any]:
    """Measures one case on a CPU: both modes, each with the peer's, and the parts."""
    case = CASES[name]
    images = cases_lib.images(case)
    data = f"{folder}/{name}.npy"
    np.save(data, images)
    ours, result = Ours(case, images), {"case": name, **case}
    for mode in ("train", "step"):
        result[mode] = compile_step(ours, mode)
        steps = max(1, round(3 / seconds(ours, mode, 1)))  # about three seconds a turn
        our_times, peer_times = [], []
        for _ in range(rounds):
            our_times.append(seconds(ours, mode, steps) / steps)
            if peer:
                peer_times.append(peer.run(case, data, mode, steps) / steps)
        result[mode]["images_per_s"] = case["batch"] / statistics.median(our_times)
        if peer:
            result[mode] |= compared(case["batch"], our_times, peer_times)
    result["parts_ms"] = parts(ours, rounds)
    return result | rates(ours, case, result["step"]["images_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="the cases of a GPU")
    parser.add_argument("--cases", help="names of cases.py, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="an interpreter that has torch and lightly")
    options = parser.parse_args()
    peer = Peer(options.peer) if options.peer else None
    names = cases_lib.GPU if options.gpu else cases_lib.CPU
    chosen = options.cases.split(",") if options.cases else list(names)
    with tempfile.TemporaryDirectory() as folder:
        if options.gpu:
            found = throughput_gpu.measure(chosen, options.rounds, peer, folder)
        else:
            found = (measure(name, options.rounds, peer, folder) for name in chosen)
        results: dict[str, dict[str, Any]] = {}
        for result in found:
            print(json.dumps(result), flush=True)
            results.setdefault(result["case"], {}).update(result)
    device = jax.devices()[0].device_kind
    versions = {"jax": jax.__version__} | (peer.versions if peer else {})
    flags = os.environ.get("XLA_FLAGS", "")
    print(f"\n{device}, {os.cpu_count()} cores, {platform.machine()}, {versions}")
    print(f"XLA_FLAGS={flags}\n")
    rows = [*results.values()]
    print(gpu_table(rows) if options.gpu else table(rows))


if __name__ == "__main__":
    main()
