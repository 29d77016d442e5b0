"""Times a SimCLR train step, whole and in parts, on the device at hand.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --cases=r18_quarter --rounds=7
    python benchmarks/throughput.py --peer=PYTHON    # which has torch and lightly

Prints one JSON line per case, then a table. `train` is the whole step as launch.py runs
it: gather the images on the device, augment, encode, loss, gradients, Adam. `step` is
the same on two given batches. Parts are timed alone, so they need not add up. With
--peer, lightly's SimCLR in PyTorch (peer_simclr.py) trains the same architecture on the
same images, in alternating turns. The ratio is its time over ours in the same turn:
above 1 we are faster. FLOPs are three times those that XLA counts for the forward pass.
`share` is their share of the device's peak, for a CPU of its measured float32 matrix
product.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
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

from simclr_jax import augment, data, losses, methods  # noqa: E402
from simclr_jax import training as train  # noqa: E402
from simclr_jax.encoders import ResNet  # noqa: E402
from simclr_jax.heads import Projector  # noqa: E402
from simclr_jax.stages import pretrain  # noqa: E402

CASES = {
    "r18_quarter": {"depth": 18, "width": 0.25, "batch": 256, "size": 32},
    "r18": {"depth": 18, "width": 1.0, "batch": 64, "size": 32},
    "r50": {"depth": 50, "width": 1.0, "batch": 32, "size": 32},
    "r18_96": {"depth": 18, "width": 1.0, "batch": 32, "size": 96},
}
# Dense float32 (TF32 where XLA uses it), TFLOP/s, from the data sheets.
PEAKS = {"NVIDIA H100 80GB HBM3": 494.7, "NVIDIA H200": 494.7}


class Ours:
    """One case of ours: the compiled step on augmented or on given views, and parts."""

    def __init__(self, case: dict[str, Any], images: np.ndarray):
        batch, size = case["batch"], case["size"]
        self.images = jnp.asarray(images)
        encoder = ResNet(case["depth"], case["width"], stem="cifar")
        self.method = methods.make("simclr", encoder, projector=Projector(dim=128))
        self.key, self.tx = jax.random.key(0), optax.adam(1e-3)
        two = (augment.View(), augment.View())
        self.augment = partial(augment.two_views, views=two, size=size)
        pair = self.images[: 2 * batch].astype(jnp.float32) / 255
        self.views = (pair[:batch], pair[batch:])
        self.batches = {
            "train": {"index": jnp.arange(batch), "dataset": {"image": self.images}},
            "step": {"views": self.views},
        }
        self.losses = {
            "train": pretrain.make_loss(self.method, two, size, 0),
            "step": lambda params, state, key, batch: self.method.loss(
                params, state, key, batch["views"]
            ),
        }
        self.start = jax.jit(
            lambda: train.init_state(
                *self.method.init(self.key, self.views[0][:2]), self.tx
            )
        )
        self.compiled: dict[str, Any] = {}
        self.states: dict[str, Any] = {}

    def compile(self, mode: str) -> dict[str, float]:
        """Compiles a mode's step and takes the first one."""
        begin = time.perf_counter()
        state = self.start()
        step = train.make_step(self.losses[mode], self.tx, prepare=data.take)
        lowered = step.lower(state, self.key, self.batches[mode])
        self.compiled[mode] = lowered.compile()
        compiled = time.perf_counter()
        self.states[mode] = state
        self.run(mode, 1)
        first = time.perf_counter()
        memory = self.compiled[mode].memory_analysis()
        return {
            "compile_s": compiled - begin,
            "first_step_s": first - begin,
            "temporaries_mib": memory.temp_size_in_bytes / 2**20,
        }

    def run(self, mode: str, steps: int) -> float:
        """Takes so many steps; returns their seconds."""
        state, batch = self.states[mode], self.batches[mode]
        begin = time.perf_counter()
        for _ in range(steps):
            state, _ = self.compiled[mode](state, self.key, batch)
        jax.block_until_ready(state)
        self.states[mode] = state
        return time.perf_counter() - begin

    def parts(self, rounds: int) -> tuple[dict[str, float], float]:
        """(milliseconds of each part, FLOPs of the forward pass)."""
        state = self.start()
        z = jax.random.normal(self.key, (2, len(self.views[0]), 128))

        def forward(params, model_state, views):
            return self.method.loss(params, model_state, self.key, views)

        def backward(params, model_state, views):
            return jax.grad(forward, has_aux=True)(params, model_state, views)

        def loss(z):
            return jax.value_and_grad(lambda z: losses.nt_xent(*z).mean())(z)

        def update(params, opt_state):
            updates, opt_state = self.tx.update(params, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        network = (state.params, state.model_state, self.views)
        calls = {
            "augment": (self.augment, (self.key, self.images[: len(self.views[0])])),
            "forward": (forward, network),
            "forward_backward": (backward, network),
            "loss": (loss, (z,)),
            "update": (update, (state.params, state.opt_state)),
        }
        milliseconds, flops = {}, 0.0
        for name, (function, arguments) in calls.items():
            compiled = jax.jit(function).lower(*arguments).compile()
            if name == "forward":
                flops = compiled.cost_analysis()["flops"]
            jax.block_until_ready(compiled(*arguments))
            times = []
            for _ in range(rounds):
                begin = time.perf_counter()
                jax.block_until_ready(compiled(*arguments))
                times.append(1e3 * (time.perf_counter() - begin))
            milliseconds[name] = statistics.median(times)
        return milliseconds, flops


class Peer:
    """The PyTorch side, in a process of its own that works only when asked.

    It inherits the environment of this process, huge pages included.
    """

    def __init__(self, python: str):
        script = str(ROOT / "benchmarks/peer_simclr.py")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [python, script], stdin=pipe, stdout=pipe, text=True
        )
        self.versions: dict[str, str] = {}

    def run(self, case: dict[str, Any], data: str, mode: str, steps: int) -> float:
        assert self._process.stdin
        assert self._process.stdout
        request = {"case": case, "mode": mode, "steps": steps, "data": data}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.versions = answer["versions"]
        return answer["seconds"]


def peak_tflops() -> float | None:
    """The data sheet's peak, or what a float32 matrix product reaches on this CPU."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return PEAKS.get(device.device_kind)
    x = jnp.ones((3072, 3072))
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(product(x))
        times.append(time.perf_counter() - begin)
    return 2 * 3072**3 / min(times) / 1e12


def measure(name: str, rounds: int, peer: Peer | None, folder: str) -> dict[str, Any]:
    """Measures one case: both modes, in alternating turns with the peer, and parts."""
    case = CASES[name]
    rng = np.random.default_rng(0)
    shape = (8 * case["batch"], case["size"], case["size"], 3)
    images = rng.integers(0, 256, shape, np.uint8)
    data = f"{folder}/{name}.npy"
    np.save(data, images)
    ours, result = Ours(case, images), {"case": name, **case}
    for mode in ("train", "step"):
        result[mode] = ours.compile(mode)
        steps = max(1, round(3 / ours.run(mode, 1)))  # about three seconds a turn
        our_times, peer_times = [], []
        for _ in range(rounds):
            our_times.append(ours.run(mode, steps) / steps)
            if peer:
                peer_times.append(peer.run(case, data, mode, steps) / steps)
        result[mode]["images_per_s"] = case["batch"] / statistics.median(our_times)
        if peer:
            ratios = [b / a for a, b in zip(our_times, peer_times, strict=True)]
            result[mode]["peer_images_per_s"] = case["batch"] / statistics.median(
                peer_times
            )
            result[mode]["ratio"] = statistics.median(ratios)
            result[mode]["ratio_range"] = [min(ratios), max(ratios)]
    result["parts_ms"], forward = ours.parts(rounds)
    seconds = case["batch"] / result["step"]["images_per_s"]
    result["tflops"] = 3 * forward / seconds / 1e12
    peak = peak_tflops()
    result["share"] = result["tflops"] / peak if peak else None
    result["peak_tflops"] = peak
    stats = jax.devices()[0].memory_stats() or {}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["peak_mib"] = stats.get("peak_bytes_in_use", most) / 2**20
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="an interpreter that has torch and lightly")
    options = parser.parse_args()
    peer = Peer(options.peer) if options.peer else None
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases.split(","):
            results.append(measure(name, options.rounds, peer, folder))
            print(json.dumps(results[-1]), flush=True)
    device = jax.devices()[0].device_kind
    versions = {"jax": jax.__version__} | (peer.versions if peer else {})
    flags = os.environ.get("XLA_FLAGS", "")
    print(f"\n{device}, {os.cpu_count()} cores, {platform.machine()}, {versions}")
    print(f"XLA_FLAGS={flags}\n")
    print(table(results))


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: images/s of both modes, the ratios to the peer, FLOP rates."""
    lines = [["case", "train img/s", "peer", "ratio", "step img/s", "peer", "ratio"]]
    lines[0] += ["TFLOP/s", "share of peak"]
    lines.append(["---"] * len(lines[0]))
    for result in results:
        cells = [result["case"]]
        for mode in ("train", "step"):
            row = result[mode]
            cells.append(f"{row['images_per_s']:.1f}")
            cells.append(_number(row.get("peer_images_per_s"), ".1f"))
            low, high = row.get("ratio_range", (None, None))
            spread = f" ({low:.2f}-{high:.2f})" if low is not None else ""
            cells.append(_number(row.get("ratio"), ".2f") + spread)
        cells += [f"{result['tflops']:.3f}", _number(result["share"], ".0%")]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


if __name__ == "__main__":
    main()
