"""Computes how much of a training's state each device holds, with and without fsdp.

    python benchmarks/fsdp.py > benchmarks/results/fsdp.jsonl
    python benchmarks/fsdp.py --compile=152_3x_sk >> benchmarks/results/fsdp.jsonl

The recipe is configs/simclrv2.py, with another network, method or optimizer; only its
images are made up. The state is what `launch.py` would train: parameters, optimizer
state, BatchNorm statistics, target network. Nothing is run.

The first form adds up the parts of all arrays on virtual devices of this CPU, without a
compiler. `--compile` compiles the train step on 8 devices, for 16 images of 32 px (the
state does not depend on them), and prints `compiled.memory_analysis()`. Its arguments
are the state, the made-up images and a key. Temporaries are those of a CPU, and of 2
tiny images on a device: they show no more than that the step was compiled.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from configs import simclrv2
from simclr_jax import devices, startup
from simclr_jax.config.validate import validate
from simclr_jax.experiment import preflight
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.stages import pretrain, programs

NETWORKS = {
    f"{depth}_{width}x{'_sk' * sk}": {"depth": depth, "width": float(width), "sk": sk}
    for depth, width, sk in ((50, 1, False), (50, 2, True), (152, 3, True))
}
TRAININGS = (("simclr", "lars"), ("byol", "lars"), ("simclr", "adam"))
COUNTS = (1, 8, 32)
CLASSES, IMAGES = 1000, 32


def experiment(network: str, method: str, optimizer: str, folder: str) -> Experiment:
    """A run of the recipe on made-up images with ImageNet's number of classes."""
    config = simclrv2.get_config()
    config.stages = ("pretrain",)
    config.encoder.update(NETWORKS[network])
    if method != config.method.name:
        config.method.temperature = None  # SimCLR's option
    config.method.name, config.optimizer.name = method, optimizer
    config.precision = "float32"  # the state is float32 in any case
    config.batch_size, config.microbatch, config.augment.size = 16, 0, 32
    images = np.zeros([IMAGES, 32, 32, 3], np.uint8)
    labels = np.linspace(0, CLASSES - 1, IMAGES).astype(np.int32)
    file = Path(folder, "images.npz")
    kinds = ("train", "test")
    arrays = {f"{kind}_images": images for kind in kinds}
    np.savez(file, **arrays, **{f"{kind}_labels": labels for kind in kinds})
    config.data.name, config.data.path, config.data.stored_size = "npz", str(file), 0
    config.data.test_split = "test"
    validate(config)
    workdir = str(Path(folder, "run"))
    return Experiment(
        config, Workdir(workdir, config), preflight.check(config, workdir)
    )


def prepare(run: Experiment, fsdp: bool) -> tuple[pretrain.Training, Any, Any, int]:
    """`(training, optimizer, state's shapes with their shardings, steps)`."""
    training = pretrain.training(run)
    plan, total = run.plan("pretrain", training.num_examples)
    tx, _ = run.optimizer("pretrain", plan, total)
    like = programs.origin(training.init, training.init_args, tx, fsdp=fsdp).like
    return training, tx, like, total


def on_each_device(like: Any) -> int:
    """Bytes of a state on one of the devices."""

    def part(x: jax.ShapeDtypeStruct) -> int:
        shape = x.sharding.shard_shape(x.shape) if x.sharding else x.shape
        return int(np.prod(shape)) * x.dtype.itemsize

    return sum(map(part, jax.tree.leaves(like)))


def by_shapes(run: Experiment, count: int) -> dict[str, Any]:
    devices.use(count)
    whole, spread = (on_each_device(prepare(run, fsdp)[2]) for fsdp in (False, True))
    return {"devices": count, "bytes_whole": whole, "bytes_fsdp": spread}


def by_compiler(run: Experiment, count: int, fsdp: bool) -> dict[str, Any]:
    devices.use(count)
    training, tx, like, total = prepare(run, fsdp)

    def after(params: Any, model_state: Any, step: jax.Array) -> Any:
        return training.update(params, model_state, step / total)

    step = programs.step(training.loss_fn, tx, after, like, several=False)
    batch = devices.place(next(iter(training.batches(0))))
    memory = step.lower(like, run.key("pretrain"), batch).compile().memory_analysis()
    return {
        "devices": count,
        "fsdp": fsdp,
        "state_bytes": on_each_device(like),
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", choices=NETWORKS, help="a network")
    parser.add_argument("--whole", action="store_true", help="compile without fsdp")
    request = parser.parse_args()
    startup.set_cpu_flags()  # XLA reads them when first used
    jax.config.update("jax_num_cpu_devices", max(COUNTS))
    wanted = (
        [(request.compile, *TRAININGS[0])]
        if request.compile
        else [(network, *training) for network in NETWORKS for training in TRAININGS]
    )
    for case in wanted:
        with tempfile.TemporaryDirectory() as folder:
            run = experiment(*case, folder)
            found = (
                [by_compiler(run, 8, not request.whole)]
                if request.compile
                else [by_shapes(run, count) for count in COUNTS]
            )
        about = dict(zip(("network", "method", "optimizer"), case, strict=True))
        about["jax"] = jax.__version__
        for figures in found:
            print(json.dumps(about | figures), flush=True)


if __name__ == "__main__":
    main()
