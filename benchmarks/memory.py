"""Asks the compiler how much memory a pretraining step needs.

    python benchmarks/memory.py
    python benchmarks/memory.py --cases=cifar_r50
    python benchmarks/memory.py --run    # on a GPU

Compiles SimCLR's step (forward, loss, gradients; no data, no optimizer) for the device
at hand, without running it. Prints one JSON line per case: temporary memory from
`compiled.memory_analysis()`, and FLOPs counted in the program, with each scan counted
as often as it runs. On a CPU this is XLA's plan for a CPU in float32: a GPU's plan
differs, and bfloat16 is not measured.

--run takes one step of each case of `_RUN`, in bfloat16 and in a process of its own,
and prints the peak that the device reports.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp

from simclr_jax import losses, methods, startup
from simclr_jax.encoders import ResNet
from simclr_jax.heads import Projector

# (batch, microbatch or None, remat)
_PLAIN = [(n, None, False) for n in (64, 128, 256, 512, 1024)]
CASES = {
    "cifar_r18": ({"depth": 18, "size": 32}, [(128, None, False), (4096, 128, False)]),
    "cifar_r50": ({"depth": 50, "size": 32}, [*_PLAIN, (4096, 128, False)]),
    "r50_224": (
        {"depth": 50, "size": 224},
        [(64, None, False), (256, None, False), (256, None, True), (4096, 64, False)],
    ),
}
# What --run measures; "rows" is NT-Xent alone on so many embeddings of width 128.
_RUN: dict[str, dict[str, Any]] = {
    "cifar_r18_4096": {"depth": 18, "size": 32, "batch": 4096, "microbatch": 512},
    "cifar_r50_4096": {"depth": 50, "size": 32, "batch": 4096, "microbatch": 256},
    "r50_224": {"depth": 50, "size": 224, "batch": 256},
    "r50_224_remat": {"depth": 50, "size": 224, "batch": 256, "remat": True},
    "nt_xent_65536": {"rows": 65536},
}


def forward(
    depth: int,
    size: int,
    batch: int,
    microbatch: int | None = None,
    remat: bool = False,
    width: float = 1,
    sk: bool = False,
    layers: int = 2,
    dtype: Any = jnp.float32,
):
    """`(SimCLR's loss, its arguments' shapes)`: params, state and two views."""
    stem = "cifar" if size == 32 else "imagenet"
    method = methods.make(
        "simclr",
        ResNet(depth, width, sk, stem, dtype, remat),
        projector=Projector(layers=layers, dim=128),
        microbatch=microbatch,
    )
    key = jax.random.key(0)
    blank = jnp.zeros((2, size, size, 3))
    params, state = jax.eval_shape(lambda: method.init(key, blank))
    view = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)

    def loss(params, state, a, b):
        return method.loss(params, state, key, (a, b))

    return loss, (params, state, view, view)


def gradient(**fields):
    """`(the step, shapes of its arguments)`; `fields` are those of `forward`."""
    loss, arguments = forward(**fields)
    return jax.value_and_grad(loss, has_aux=True), arguments


def flops(jaxpr: Any, zeros: bool = True) -> float:
    """Multiplications and additions of all products and convolutions in a jaxpr.

    The gradient of a strided convolution by its input is itself a convolution, with
    zeros put between the values. `zeros=False` leaves out the products with these
    zeros. Products with padding count.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, equation.invars
        out = equation.outvars[0].aval if equation.outvars else None
        if name == "dot_general":
            (over, _), _ = equation.params["dimension_numbers"]
            shape = inputs[0].aval.shape
            total += 2 * out.size * math.prod(shape[i] for i in over)
        elif name == "conv_general_dilated":
            numbers = equation.params["dimension_numbers"]
            kernel = inputs[1].aval
            count = 2 * out.size * kernel.size / kernel.shape[numbers.rhs_spec[0]]
            spread = 1 if zeros else math.prod(equation.params["lhs_dilation"])
            total += count / spread
        times = equation.params.get("length", 1) if name == "scan" else 1
        inner = [x for value in equation.params.values() for x in _programs(value)]
        total += times * sum(flops(program, zeros) for program in inner)
    return total


def _programs(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [program for item in value for program in _programs(item)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []


def run(name: str) -> dict[str, Any]:
    """Takes one step of a case of `_RUN`; returns the device's peak."""
    fields = dict(_RUN[name])
    if "rows" in fields:
        shape = (fields["rows"] // 2, 128)
        keys = jax.random.split(jax.random.key(0))
        arguments: tuple = tuple(jax.random.normal(key, shape) for key in keys)
        step = jax.grad(lambda a, b: losses.nt_xent(a, b).mean(), argnums=(0, 1))
    else:
        step, shapes = gradient(**fields, dtype=jnp.bfloat16)
        arguments = jax.jit(lambda: jax.tree.map(_ones, shapes))()
    jax.block_until_ready(jax.jit(step)(*arguments))
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    peak_gib = None if peak is None else round(peak / 2**30, 3)
    return {"case": name, **fields, "peak_gib": peak_gib, "device": device.device_kind}


def _ones(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.ones(shape.shape, shape.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases")
    parser.add_argument("--run", action="store_true", help="measure, on a GPU")
    parser.add_argument("--one", help="of --run, in this process")
    options = parser.parse_args()
    startup.set_cpu_flags()  # XLA reads them when first used
    if options.one:
        print(json.dumps(run(options.one)), flush=True)
    elif options.run:
        for name in options.cases.split(",") if options.cases else _RUN:
            subprocess.run([sys.executable, __file__, f"--one={name}"], check=False)
    else:
        plan(options.cases.split(",") if options.cases else list(CASES))


def plan(names: list[str]) -> None:
    """Prints the compiler's plan for each case."""
    for name in names:
        fields, settings = CASES[name]
        for batch, microbatch, remat in settings:
            step, arguments = gradient(
                **fields, batch=batch, microbatch=microbatch, remat=remat
            )
            count = flops(jax.make_jaxpr(step)(*arguments).jaxpr)
            compiled = jax.jit(step).lower(*arguments).compile()
            memory = compiled.memory_analysis()
            result = {
                "case": name,
                "batch": batch,
                "microbatch": microbatch,
                "remat": remat,
                "temporaries_gib": round(memory.temp_size_in_bytes / 2**30, 3),
                "gflops_per_image": round(count / batch / 1e9, 3),
                "device": jax.devices()[0].device_kind,
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
