"""`python -m simclr_jax`: the same as `simclr-jax` and as launch.py in a clone."""

import sys

from simclr_jax.launch.early import start

if __name__ == "__main__":
    sys.exit(start())
