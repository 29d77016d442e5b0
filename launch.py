"""What `simclr-jax` does, from a clone: it reads the flags and runs the stages.

    python launch.py --config=configs/cifar10.py --workdir=runs/cifar10
    python launch.py --config=configs/demo.py --workdir=runs/a --config.epochs=5
    python launch.py --config=configs/small_batch.py --workdir=runs/study --sweep
    python launch.py --help [--config=configs/demo.py]

The same command continues an interrupted run. simclr_jax/launch/main.py has the code
and the exit codes.
"""

if __name__ == "__main__":  # from now on signals wait until `start` takes them
    import _signal  # pyright: ignore[reportMissingImports]

    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM, _signal.SIGINT))

import sys

from simclr_jax.launch.early import start

if __name__ == "__main__":
    sys.exit(start())  # before the imports below, which take longer

from simclr_jax.launch.main import main, run, train

__all__ = ["main", "run", "start", "train"]
