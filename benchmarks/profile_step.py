"""Where the time of a train step goes, kernel by kernel, on the device at hand.

    python benchmarks/profile_step.py --case=r50_bf16
    python benchmarks/profile_step.py --case=r18_quarter --steps=2 --hlo=step.hlo.txt

Compiles a case of cases.py, records a few steps with JAX's profiler, and prints: the
time of a step, the bytes and FLOPs that XLA counts in it, what both would take at the
rates given by --bandwidth and --tflops, and the time of each kind of kernel and of the
longest kernels. `--hlo` keeps the compiled program. On a CPU, the kernels of all
threads are added up. Kernels with the same code have one name: their times are added.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from simclr_jax import startup

startup.set_cpu_flags()

import cases  # noqa: E402
import jax  # noqa: E402
from jax.profiler import ProfileData  # noqa: E402

# The first pattern that a kernel's name matches gives its kind.
_KINDS = (
    ("convolution", r"conv(?!ert)|cudnn|wgrad|dgrad|fprop|implicit|xmma"),
    ("matrix product", r"gemm|dot|cutlass|cublas|nvjet|matmul"),
    ("reduction", r"reduce"),
    ("transpose, copy", r"transpose|copy|concat|memcpy|memset"),
    ("sort, gather, scatter", r"sort|gather|scatter|select_and"),
    ("element-wise", r"fusion|multiply|add|select|convert|broadcast"),
)


def kind(name: str) -> str:
    """The kind of a kernel, by its name."""
    found = (label for label, words in _KINDS if re.search(words, name.lower()))
    return next(found, "other")


def kernels(folder: str) -> Counter:
    """Kernel -> nanoseconds, from the trace in `folder`."""
    total: Counter = Counter()
    for path in Path(folder).rglob("*.xplane.pb"):
        profile = ProfileData.from_file(str(path))
        planes = [p for p in profile.planes if p.name.startswith("/device:")]
        on_cpu = not planes
        ours = re.compile(r"\$|Thunk|Pjit|Parse|Xla")  # of Python and of the runtime
        for plane in planes or profile.planes:
            for line in plane.lines:
                # A GPU plane repeats its kernels in lines for modules and steps.
                if on_cpu or line.name.startswith("Stream"):
                    for event in line.events:
                        if not (on_cpu and ours.match(event.name)):
                            total[event.name] += event.duration_ns
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default="r18_quarter", choices=cases.CASES)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--bandwidth", type=float, help="of memory, TB/s", default=3.0)
    parser.add_argument("--tflops", type=float, help="of the device", default=798.0)
    parser.add_argument("--hlo", help="a file for the compiled program")
    parser.add_argument("--json", help="a file for all kernels and their times")
    options = parser.parse_args()
    case = cases.CASES[options.case]
    ours = cases.Ours(case, cases.images(case))
    begin = time.perf_counter()
    compiled = ours.compiled["train"] = ours.lower("train").compile()
    print(f"{options.case} on {jax.devices()[0].device_kind}")
    print(f"compiling: {time.perf_counter() - begin:.1f} s")
    ours.run("train", 3)
    begin = time.perf_counter()
    ours.run("train", options.steps)
    milliseconds = 1e3 * (time.perf_counter() - begin) / options.steps
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            ours.run("train", options.steps)
        times = kernels(folder)
    cost = compiled.cost_analysis()
    bytes_, flops = cost.get("bytes accessed", 0.0), cost.get("flops", 0.0)
    rate = 1e3 * case["batch"] / milliseconds
    print(f"step: {milliseconds:.2f} ms, {rate:,.0f} images/s")
    print(
        f"bytes: {bytes_ / 1e9:.2f} GB, at {options.bandwidth} TB/s "
        f"{bytes_ / options.bandwidth / 1e9:.2f} ms"
    )
    print(
        f"FLOPs: {flops / 1e12:.3f} T, at {options.tflops} TFLOP/s "
        f"{flops / options.tflops / 1e9:.2f} ms"
    )
    per_step = {name: t / 1e6 / options.steps for name, t in times.most_common()}
    by_kind: Counter = Counter()
    for name, t in per_step.items():
        by_kind[kind(name)] += t
    whole = sum(by_kind.values()) or 1.0
    for label, t in by_kind.most_common():
        print(f"{t:8.3f} ms  {t / whole:4.0%}  {label}")
    for name, t in list(per_step.items())[:25]:
        print(f"{t:8.3f} ms  {t / whole:5.1%}  {name[:90]}")
    if options.hlo:
        Path(options.hlo).write_text(compiled.as_text())
    if options.json:
        Path(options.json).write_text(json.dumps(per_step, indent=1))


if __name__ == "__main__":
    main()
