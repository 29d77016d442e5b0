"""What `simclr-jax` does, from a clone: it reads the flags and runs the stages.

    python launch.py --config=configs/cifar10.py --workdir=runs/cifar10
    python launch.py --config=configs/demo.py --workdir=runs/a --config.epochs=5
    python launch.py --config=configs/small_batch.py --workdir=runs/study --sweep
    python launch.py --help [--config=configs/demo.py]

The same command continues an interrupted run. simclr_jax/launch/main.py has the code
and the exit codes.
"""

import sys

from simclr_jax.launch.early import start

if __name__ == "__main__":
    sys.exit(start())  # before the imports below, for signals that come meanwhile

from simclr_jax.launch.main import main, run, train

__all__ = ["main", "run", "start", "train"]
