"""`python -m simclr_jax`: the same as `simclr-jax` and as launch.py in a clone."""

if __name__ == "__main__":  # from now on signals wait until `start` takes them
    import _signal  # pyright: ignore[reportMissingImports]

    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM, _signal.SIGINT))

import sys

from simclr_jax.launch.early import start

if __name__ == "__main__":
    sys.exit(start())
