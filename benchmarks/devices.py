"""Compares the losses of every method on one device and on several.

    python benchmarks/devices.py --devices=8 > benchmarks/results/devices.jsonl

Each method, in every form that keeps something else, trains a tiny encoder for 20 steps
with 16 images in a batch, whole and in micro-batches of 8. On a CPU the devices are
virtual. One line a case: the largest relative difference of the 20 losses, and how many
programs the step compiled on several devices. Takes 3 minutes of CPU time. It says
nothing about speed.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=8)
    count = parser.parse_args().devices
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    # Both before jax starts; the first speaks of CPUs only.
    jax.config.update("jax_num_cpu_devices", count)
    jax.config.update("jax_disable_most_optimizations", True)
    from device_runs import STEPS, train
    from small_methods import FORMS

    from simclr_jax import methods

    for case in (*methods.names(), *FORMS):
        for microbatch in (None, 8):
            alone, _, _ = train(case, microbatch, 1)
            split, _, step = train(case, microbatch, count)
            line = {
                "case": case,
                "microbatch": microbatch,
                "steps": STEPS,
                "devices": count,
                "device": jax.devices()[0].device_kind,
                "jax": jax.__version__,
                "first_loss": alone[0],
                "last_loss": alone[-1],
                "difference": float(np.abs(np.divide(split, alone) - 1).max()),
                "programs": step._cache_size(),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
