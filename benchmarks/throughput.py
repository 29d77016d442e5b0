"""Times train steps, whole and in parts, on the device at hand, next to a peer's.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --cases=r18_quarter --rounds=7
    python benchmarks/throughput.py --peer=PYTHON    # which has torch and lightly
    python benchmarks/throughput.py --gpu --peer=PYTHON    # about four minutes

Prints one JSON line per case of cases.py, then a table. `train` is the whole step as
launch.py runs it: gather the images on the device, augment, encode, loss, gradients,
Adam. `step` is the same on two given batches. Parts are timed alone, so they need not
add up. With --peer, lightly's SimCLR in PyTorch (peer_simclr.py) trains the same
architecture on the same images, in alternating turns. The ratio is its time over ours
in the same turn: above 1 we are faster. FLOPs are three times those of the forward
pass. `share` is their share of the device's peak, for a CPU of its measured float32
matrix product.

On a GPU (--gpu) only our `train` is timed, and the peer's `step`, plain and with
torch.compile: our augmentation counts against us. Its `train`, which loads images with
all cores, is timed for one case.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
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
from cases import CASES, Ours  # noqa: E402
from peer import Peer  # noqa: E402
from throughput_tables import GPU_MODES, gpu_table, table  # noqa: E402

from simclr_jax import losses  # noqa: E402

# Dense TFLOP/s, from the data sheets; float32 as TF32, which XLA uses.
PEAKS = {"float32": 494.7, "bfloat16": 989.4}
_CARDS = ("NVIDIA H100 80GB HBM3", "NVIDIA H200")
# On a GPU the peer is timed with its loader in this case only.
_LOADED = "r18_bf16"


def compile_step(ours: Ours, mode: str) -> dict[str, float]:
    """Compiles a mode's step and takes the first one."""
    begin = time.perf_counter()
    ours.compiled[mode] = ours.lower(mode).compile()
    compiled = time.perf_counter()
    ours.run(mode, 1)
    first = time.perf_counter()
    memory = ours.compiled[mode].memory_analysis()
    return {
        "compile_s": compiled - begin,
        "first_step_s": first - begin,
        "temporaries_mib": memory.temp_size_in_bytes / 2**20,
    }


def seconds(ours: Ours, mode: str, steps: int) -> float:
    begin = time.perf_counter()
    ours.run(mode, steps)
    return time.perf_counter() - begin


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


def milliseconds(function: Any, arguments: tuple, rounds: int, calls: int = 1) -> float:
    """The median time of a call, over rounds of so many calls."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            result = compiled(*arguments)
        jax.block_until_ready(result)
        times.append(1e3 * (time.perf_counter() - begin) / calls)
    return statistics.median(times)


def forward_flops(ours: Ours) -> float:
    """Multiplications and additions of the products of one forward pass."""
    from memory import flops

    state = jax.eval_shape(ours.start)
    batch = ours.batches["step"]
    loss = ours.losses["step"]
    traced = jax.make_jaxpr(loss)(state.params, state.model_state, ours.key, batch)
    return flops(traced.jaxpr)


def peak_tflops(precision: str) -> float | None:
    """The data sheet's peak, or what a float32 matrix product reaches on this CPU."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return PEAKS[precision] if device.device_kind in _CARDS else None
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


def measure_gpu(
    name: str, rounds: int, peer: Peer | None, folder: str
) -> dict[str, Any]:
    """Measures one case on a GPU, in turns of about 0.8 s after a warm-up."""
    case = CASES[name]
    images = cases_lib.images(case)
    data = f"{folder}/{name}.npy"
    np.save(data, images)
    ours, result = Ours(case, images), {"case": name, **case}
    result["train"] = compile_step(ours, "train")
    seconds(ours, "train", 3)
    steps = max(3, round(0.8 / (seconds(ours, "train", 5) / 5)))
    modes = ("step",)
    if peer is None or case["method"] != "simclr":
        modes = ()
    elif case["precision"] == "bfloat16":
        modes = GPU_MODES + (("train",) if name == _LOADED else ())
    our_times: list[float] = []
    peer_times: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        our_times.append(seconds(ours, "train", steps) / steps)
        for mode in modes:
            assert peer is not None
            peer_times[mode].append(peer.run(case, data, mode, steps) / steps)
    result["train"]["images_per_s"] = case["batch"] / statistics.median(our_times)
    for mode, times in peer_times.items():
        result[f"peer_{mode}"] = compared(case["batch"], our_times, times)
    two = (ours.augment, (ours.key, ours.images[: ours.batch]))
    result["parts_ms"] = {"augment": milliseconds(*two, rounds, calls=20)}
    return result | rates(ours, case, result["train"]["images_per_s"])


def compared(batch: int, our_times: list, peer_times: list) -> dict[str, Any]:
    """The peer's rate and its time over ours, turn by turn."""
    ratios = [b / a for a, b in zip(our_times, peer_times, strict=True)]
    return {
        "peer_images_per_s": batch / statistics.median(peer_times),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def rates(ours: Ours, case: dict[str, Any], images_per_s: float) -> dict[str, Any]:
    """FLOP/s, their share of the peak, and the peak of memory."""
    tflops = 3 * forward_flops(ours) / case["batch"] * images_per_s / 1e12
    peak = peak_tflops(case["precision"])
    stats = jax.devices()[0].memory_stats() or {}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "tflops": tflops,
        "share": tflops / peak if peak else None,
        "peak_tflops": peak,
        # Of the process so far: only the first case's peak is its own.
        "peak_mib": stats.get("peak_bytes_in_use", most) / 2**20,
    }


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
    one = measure_gpu if options.gpu else measure
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            results.append(one(name, options.rounds, peer, folder))
            print(json.dumps(results[-1]), flush=True)
    device = jax.devices()[0].device_kind
    versions = {"jax": jax.__version__} | (peer.versions if peer else {})
    flags = os.environ.get("XLA_FLAGS", "")
    print(f"\n{device}, {os.cpu_count()} cores, {platform.machine()}, {versions}")
    print(f"XLA_FLAGS={flags}\n")
    print(gpu_table(results) if options.gpu else table(results))


if __name__ == "__main__":
    main()
