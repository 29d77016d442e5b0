"""Counts what the devices of a train step send each other; nothing is run.

    python benchmarks/communication.py    # every point below, half an hour
    python benchmarks/communication.py --cases=simclr --devices=8 --batches=4096
    python benchmarks/communication.py --table

Each point is a step of `configs/imagenet.py` (ResNet-50, 224 px, bfloat16, LARS or SGD,
online probe, augmentation), made by the stage's own code from abstract shapes, and
compiled for so many virtual CPU devices by a process of its own. A finished point is a
line of benchmarks/results/communication.jsonl; it is not compiled again.

- `sent`: the arrays that collectives return on one device, in a whole step (a loop's
  body counts as often as it runs), in the program that XLA's partitioner makes. Every
  backend starts from this program, so bytes and types do not depend on the CPU. Later
  passes change it: the CPU's compiler sends the gradients of bfloat16 kernels in
  float32, a GPU's may make an all-reduce a reduce-scatter.
- `messages`: collectives that the program compiled for the CPU runs in a step, after
  its passes have combined some of them. A GPU's compiler combines by other rules.

What an array carries follows from its operation's name and its shape:

- gradients: of kernels and of biases without BatchNorm. They depend on the network.
- weights: with `config.fsdp` a device gathers them for as long as it needs them.
- batch_norm: its statistics, and the gradients of its scale and bias.
- embeddings: z, its gradient, and similarities. They depend on the batch.
- images: views, or the weights that crop them; activations: of the network.
- other: sums for the loss and for metrics.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.collectives import Array, executed, programs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/communication.jsonl"

# A variant of the recipe and the fields that it changes. "devices": their number.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "simclr": ("simclr", {"microbatch": 0}),
    "simclr_micro": ("simclr", {"microbatch": 256}),
    "simclr_fsdp": ("simclr", {"microbatch": 0, "fsdp": True}),
    "simclr_memory": ("simclr", {"microbatch": 0, "method.memory": 131_072}),
    "byol": ("byol", {"microbatch": 0}),
    "moco": ("moco", {"method.bn_groups": "devices"}),
    "moco_8_groups": ("moco", {}),
    "moco_random": ("moco", {"method.shuffle": True}),
}
DEVICES, BATCHES = (8, 64, 512), (4096, 8192, 16_384, 32_768, 65_536)
# What is counted unless flags say otherwise.
POINTS = [
    *((case, n, 4096) for case in CASES for n in DEVICES),
    *((case, n, 8192) for case in ("simclr", "byol", "moco") for n in (64, 512)),
    *(("simclr", n, 65_536) for n in (64, 512)),
    ("simclr", 512, 16_384),
]

_NETWORK = re.compile(r"\b(ResNet|Projector|Predictor|Classifier)\b")
_BATCH_NORM = re.compile(r"(^|[/_])bn(_?\d+)?(/|$)")


def carries(
    array: Array, parameters: set[tuple[int, ...]], sides: Iterable[int]
) -> str:
    """What an array of a collective is; see the module's docstring.

    Args:
      parameters: the shapes of the trained arrays; `squeezed` each.
      sides: of the images, stored and augmented.
    """
    shape = squeezed(array.shape)
    if _NETWORK.search(array.operation):
        if _BATCH_NORM.search(array.operation):
            return "batch_norm"
        of = {"all-reduce": "gradients", "all-gather": "weights"}
        found = shape in parameters and array.kind in of
        return of[array.kind] if found else "activations"
    if len(shape) >= 3 and sum(shape.count(side) for side in {*sides}) >= 2:
        return "images"
    if len(shape) >= 2:
        return "embeddings"
    if array.operation.endswith("jvp()/reduce_sum") and shape:
        return "batch_norm"  # MoCo's mean over groups
    rows = "while/body" in array.operation or array.kind == "all-gather"
    return "embeddings" if shape and rows else "other"


def squeezed(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape that is the same for a kernel and its transpose, or with axes of one."""
    return tuple(sorted(length for length in shape if length > 1))


def count(
    case: str, devices: int, batch: int, config: Any = None, *, finish: bool = True
) -> dict[str, Any]:
    """A point's line, without its provenance. This process must have the devices.

    Args:
      config: replaces the case's recipe (a small one, in tests).
      finish: wait until the compiler ends, of whose work only the first part is needed.
    """
    import jax

    from benchmarks.imagenet_step import program

    step, arguments, sides = program(config or recipe(case, devices, batch), devices)
    partitioned, compiled = map(executed, programs(step.lower(*arguments), finish))
    params = jax.tree.leaves(arguments[0].params)
    shapes = {squeezed(x.shape) for x in params}
    return {
        "case": case,
        "devices": devices,
        "batch_size": batch,
        "parameters": sum(x.size for x in params),
        "sent": summary(partitioned, shapes, sides),
        "messages": sum({x.instruction: x.times for x in compiled}.values()),
    }


def summary(arrays: list[Array], parameters: set, sides: Iterable[int]) -> list[dict]:
    """The bytes by what they carry, collective, type and devices that exchange them."""
    size, arrays_in_step = Counter(), Counter()
    for x in arrays:
        key = (carries(x, parameters, sides), x.kind, x.dtype, x.devices)
        size[key] += x.nbytes * x.times
        arrays_in_step[key] += x.times
    names = ("carries", "collective", "dtype", "among")
    return [
        dict(zip(names, key, strict=True))
        | {"arrays": arrays_in_step[key], "bytes": size[key]}
        for key in sorted(size)
    ]


def recipe(case: str, devices: int, batch: int) -> Any:
    """The config of a case."""
    from simclr_jax.config import recipes

    variant, changes = CASES[case]
    config = recipes.load(f"{ROOT}/configs/imagenet.py:{variant}")
    for path, value in changes.items():
        section, _, name = path.rpartition(".")
        fields = config[section] if section else config
        fields[name] = devices if value == "devices" else value
    config.batch_size = batch
    return config


def read(path: Path = RESULTS) -> dict[tuple[str, int, int], dict[str, Any]]:
    """The recorded lines, by case, devices and batch."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = map(json.loads, lines)
    return {(x["case"], x["devices"], x["batch_size"]): x for x in records}


def _fits(case: str, devices: int, batch: int) -> bool:
    """Whether the recipe allows the point."""
    if case == "simclr_micro":
        return CASES[case][1]["microbatch"] % devices == 0
    groups = devices if case == "moco" else 8
    return not case.startswith("moco") or batch // groups >= 2


def _provenance() -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    git = ("git", "-C", str(ROOT))
    commit = subprocess.check_output(
        [*git, "rev-parse", "--short=12", "HEAD"], text=True
    )
    packages = ("jax", "jaxlib", "flax", "optax")
    versions = {name: version(name) for name in packages}
    return {
        "commit": commit.strip(),
        "versions": {"python": platform.python_version()} | versions,
    }


def _count_here(case: str, devices: int, batch: int) -> None:
    import jax

    # The partitioner comes before the passes that this leaves out.
    jax.config.update("jax_disable_most_optimizations", True)
    record = count(case, devices, batch, finish=False)
    flags = f"--cases={case} --devices={devices} --batches={batch}"
    command = f"python benchmarks/communication.py {flags}"
    print(json.dumps(record | {"command": command} | _provenance()), flush=True)
    os._exit(0)  # the compiler still works


def _count_in_a_process(case: str, devices: int, batch: int) -> str:
    """The point's line, from a process with so many virtual devices."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    flags = [f"--here={case}", f"--devices={devices}", f"--batches={batch}"]
    command = [sys.executable, __file__, *flags]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment["TMPDIR"] = folder
        run = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True
        )
    if run.returncode:
        raise SystemExit(f"{shlex.join(command)}: exit {run.returncode}")
    return run.stdout.splitlines()[-1]


def table(records: Iterable[dict[str, Any]]) -> str:
    """Markdown: MB of collectives' results on one device, by what they carry."""
    groups = ("gradients", "weights", "batch_norm", "embeddings", "images")
    groups += ("activations",)
    header = ["case", "devices", "batch", *(name.replace("_n", "N") for name in groups)]
    lines = [[*header, "messages"], ["---"] * (len(header) + 1)]
    for x in records:
        cells = [x["case"], f"{x['devices']}", f"{x['batch_size']:,}"]
        for group in groups:
            size = sum(row["bytes"] for row in x["sent"] if row["carries"] == group)
            cells.append(f"{size / 1e6:,.2f}" if size else "")
        lines.append([*cells, f"{x['messages']:,}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _wanted(request: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    def numbers(text: str) -> set[int]:
        return {int(number) for number in text.split(",")}

    if not (request.cases or request.devices or request.batches):
        yield from POINTS
        return
    for case in (request.cases or ",".join(CASES)).split(","):
        for devices in sorted(numbers(request.devices) if request.devices else DEVICES):
            batches = numbers(request.batches) if request.batches else BATCHES
            yield from ((case, devices, batch) for batch in sorted(batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", help=f"of {', '.join(CASES)}")
    parser.add_argument("--devices", help="numbers of devices, as in 8,64")
    parser.add_argument("--batches", help="global batch sizes")
    parser.add_argument("--table", action="store_true", help="print all lines")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    request = parser.parse_args()
    if request.here:
        _count_here(request.here, int(request.devices), int(request.batches))
        return
    if request.table:
        print(table(read().values()))
        return
    for point in _wanted(request):
        if point in read() or not _fits(*point):
            continue
        line = _count_in_a_process(*point)
        with RESULTS.open("a") as file:
            file.write(f"{line}\n")
        print(*point, flush=True)


if __name__ == "__main__":
    main()
