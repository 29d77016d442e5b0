"""What throughput.py measures of one step: its time, its FLOPs, its memory."""

import resource
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from cases import Ours

# Dense TFLOP/s, from the data sheets; float32 as TF32, which XLA uses.
PEAKS = {"float32": 494.7, "bfloat16": 989.4}
_CARDS = ("NVIDIA H100 80GB HBM3", "NVIDIA H200")


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
