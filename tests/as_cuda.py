"""Scripts for what happens before jax is imported, as on a machine with CUDA."""

import os
import subprocess
import sys

from tiny import ROOT


def run(script: str, **changes):
    """A script with `startup` and `streams`; this machine seems to have CUDA."""
    before = (
        "import os, sys\n"
        "from simclr_jax import startup\n"
        "from simclr_jax.launch import streams\n"
        "startup.has_cuda = lambda: True\n"
    )
    ours = ("XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL")
    plain = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-c", before + script],
        cwd=ROOT,
        env=plain | {"JAX_PLATFORMS": "cpu"} | changes,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
