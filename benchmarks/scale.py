"""Computes what SimCLRv2's published networks need at the paper's setting; runs none.

    python benchmarks/scale.py                        # from the programs, a minute
    python benchmarks/scale.py --sizes= --compile=50_1x,50_1x_sk
    python benchmarks/scale.py --sizes= --compile=50_1x --microbatch=512
    python benchmarks/scale.py --sizes= --table

The setting: ImageNet at 224 px, batch 4096 over 32 devices (virtual ones of this CPU),
the head of configs/simclrv2.py, float32. Each size adds a line to
benchmarks/results/scale.jsonl that is computed from its program (abstract shapes only).
`--compile` adds a line from the compiler's plan for the step sharded over the devices.
Lines that exist are not computed again. `--table` prints them all.

- parameters: of the encoder, and of encoder and head; BatchNorm's statistics are
  counted separately.
- optimizer: bytes of LARS's state, from its `init`.
- FLOPs: of products and convolutions in the step's program (forward, NT-Xent over the
  whole batch, gradients; both views). Each scan counts as often as it runs, the zeros
  in strided convolutions' gradients do not count.
- kept: bytes of the distinct arrays that autodiff keeps from the forward pass for the
  backward pass, without the program's inputs. An array that only repeats another counts
  as that other. A device has 1/32 of them. See `kept`.
- temporaries: `compiled.memory_analysis()` per device, on a CPU. A GPU's plan differs.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from jax.extend.core import Literal
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.memory import flops, forward, gradient
from configs import simclrv2
from simclr_jax import startup
from simclr_jax.training import optimizers as optim

RESULTS = Path(__file__).parent / "results/scale.jsonl"
DEVICES = 32
GIB = 2**30

# The rows of google-research/simclr's README, then SimCLR's and BYOL's largest.
_PUBLISHED = [
    *(
        (depth, width, sk)
        for depth in (50, 101, 152)
        for width in (1, 2)
        for sk in (0, 1)
    ),
    (152, 3, 1),
    (50, 4, 0),
    (200, 2, 0),
]
SIZES: dict[str, dict[str, Any]] = {
    f"{depth}_{width}x{'_sk' * sk}": {"depth": depth, "width": width, "sk": bool(sk)}
    for depth, width, sk in _PUBLISHED
}


def setting(name: str, microbatch: int | None = None) -> dict[str, Any]:
    """The arguments of `forward` for a size; all but the network are the recipe's."""
    recipe = simclrv2.get_config()
    assert recipe.projector.dim == 128
    assert recipe.projector.hidden is None
    return SIZES[name] | {
        "size": recipe.augment.size,
        "batch": recipe.batch_size,
        "layers": recipe.projector.layers,
        "microbatch": microbatch,
    }


def nbytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def count(tree: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def kept(function: Any, params: Any, *others: Any) -> int:
    """Bytes of what the gradient by `params` keeps from the forward pass.

    These are the outputs of the program that computes jax.vjp's residuals, each counted
    once, without the program's own inputs. If one only repeats another array (a scale
    per channel, over all pixels), the other one is all that has to be kept, so it is
    what counts.

    Args:
      function: `(params, *others) -> (scalar, anything)`; a plain program, not a scan.
    """

    def residuals(params, *others):
        return jax.vjp(lambda x: function(x, *others), params, has_aux=True)[1]

    program = jax.make_jaxpr(residuals)(params, *others).jaxpr
    made_by = {out: equation for equation in program.eqns for out in equation.outvars}
    arrays = set()
    for array in program.outvars:
        while not isinstance(array, Literal) and array in made_by:
            if made_by[array].primitive.name != "broadcast_in_dim":
                arrays.add(array)
                break
            array = made_by[array].invars[0]
    return nbytes([array.aval for array in arrays])


def by_program(name: str) -> dict[str, Any]:
    """A size's figures from its program, with abstract shapes only."""
    fields = setting(name)
    loss, arguments = forward(**fields)
    params, state = arguments[:2]
    encoder = params["encoder"]
    options = dict(simclrv2.get_config().optimizer)
    options.pop("warmup_epochs")
    tx, _ = optim.make(batch_size=fields["batch"], total_steps=1, **options)
    step, _ = gradient(**fields)
    program = jax.make_jaxpr(step)(*arguments).jaxpr
    return {
        "encoder_parameters": count(encoder),
        "parameters": count(params),
        "statistics": count(state),
        "parameter_bytes": nbytes(params),
        "optimizer_bytes": nbytes(jax.eval_shape(tx.init, params)),
        "step_pflop": round(flops(program, zeros=False) / 1e15, 4),
        "step_pflop_with_zeros": round(flops(program) / 1e15, 4),
        "kept_gib": round(kept(loss, *arguments) / DEVICES / GIB, 3),
    }


def by_compiler(name: str, microbatch: int | None) -> dict[str, Any]:
    """The compiler's plan for one of the devices; nothing is run."""
    step, arguments = gradient(**setting(name, microbatch))
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("data",))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    begin = time.monotonic()
    sharded = jax.jit(
        step, in_shardings=(whole, whole, rows, rows), out_shardings=whole
    )
    compiled = sharded.lower(*arguments).compile()
    memory = compiled.memory_analysis()
    return {
        "microbatch": microbatch,
        "temporaries_gib": round(memory.temp_size_in_bytes / GIB, 3),
        "arguments_gib": round(memory.argument_size_in_bytes / GIB, 3),
        "outputs_gib": round(memory.output_size_in_bytes / GIB, 3),
        # Of one device; a scan's body counts once.
        "xla_tflop": round(compiled.cost_analysis()["flops"] / 1e12, 3),
        "compile_s": round(time.monotonic() - begin),
        "device": f"{DEVICES} x {jax.devices()[0].device_kind}",
    }


def read() -> dict[tuple[str, str, int | None], dict[str, Any]]:
    """The recorded lines, by size, kind and micro-batch."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    records = map(json.loads, lines)
    return {(x["size"], x["by"], x.get("microbatch")): x for x in records}


def table() -> str:
    """The lines as a table in Markdown."""
    lines = [
        "| network | encoder, M | with head, M | LARS's state, GiB | "
        "step, PFLOP | per image, GFLOP | kept, GiB | plan, GiB | plan / kept | "
        "plan, 16 at a time, GiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    records = read()
    for name in SIZES:
        if (name, "program", None) not in records:
            continue
        x = records[name, "program", None]
        plan, in_pieces = (
            records.get((name, "compiler", microbatch), {}).get("temporaries_gib")
            for microbatch in (None, 16 * DEVICES)
        )
        cells = (
            name.replace("_", " ").replace("sk", "SK"),
            f"{x['encoder_parameters'] / 1e6:.1f}",
            f"{x['parameters'] / 1e6:.1f}",
            f"{x['optimizer_bytes'] / GIB:.2f}",
            f"{x['step_pflop']:.3f}",
            f"{x['step_pflop'] * 1e6 / setting(name)['batch']:.1f}",
            f"{x['kept_gib']:.1f}",
            f"{plan:.1f}" if plan else "",
            f"{plan / x['kept_gib']:.2f}" if plan else "",
            f"{in_pieces:.1f}" if in_pieces else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--compile", default="")
    parser.add_argument(
        "--microbatch", type=int, help="images per micro-batch of the sizes to compile"
    )
    parser.add_argument("--table", action="store_true")
    request = parser.parse_args()
    startup.set_cpu_flags()  # XLA reads them when first used
    jax.config.update("jax_num_cpu_devices", DEVICES)
    wanted = [(name, "program", None) for name in request.sizes.split(",") if name] + [
        (name, "compiler", request.microbatch)
        for name in request.compile.split(",")
        if name
    ]
    for key in wanted:
        if key in read():
            continue
        name, by, microbatch = key
        figures = by_program(name) if by == "program" else by_compiler(name, microbatch)
        line = json.dumps({"size": name, "by": by, **figures})
        with RESULTS.open("a") as file:
            file.write(f"{line}\n")
        print(line, flush=True)
    if request.table:
        print(table())


if __name__ == "__main__":
    main()
