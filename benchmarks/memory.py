"""Asks the compiler how much memory a pretraining step needs.

    python benchmarks/memory.py
    python benchmarks/memory.py --cases=cifar_r50

Compiles SimCLR's step (forward, loss, gradients; no data, no optimizer) for the device
at hand, without running it. Prints one JSON line per case: temporary memory from
`compiled.memory_analysis()`, and FLOPs counted in the program, with each scan counted
as often as it runs. On a CPU this is XLA's plan for a CPU in float32: a GPU's plan
differs, and bfloat16 is not measured.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp

from simclr_jax import methods, startup
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


def forward(
    depth: int,
    size: int,
    batch: int,
    microbatch: int | None = None,
    remat: bool = False,
    width: float = 1,
    sk: bool = False,
    layers: int = 2,
):
    """`(SimCLR's loss, its arguments' shapes)`: params, state and two views."""
    stem = "cifar" if size == 32 else "imagenet"
    method = methods.make(
        "simclr",
        ResNet(depth=depth, width=width, sk=sk, stem=stem, remat=remat),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    startup.set_cpu_flags()  # XLA reads them when first used
    for name in parser.parse_args().cases.split(","):
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
