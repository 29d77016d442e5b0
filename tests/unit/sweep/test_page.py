"""A sweep's page: what it loads, what it shows."""

import subprocess
import sys

from tiny import ROOT


def test_the_page_needs_neither_checkpoints_nor_tensorflow():
    """Reading results takes no second of imports that only a run needs."""
    heavy = ("orbax", "tensorflow", "simclr_jax.report.page")
    script = (
        "import sys, simclr_jax.sweep.page\n"
        f"print([x for x in {heavy} if x in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
