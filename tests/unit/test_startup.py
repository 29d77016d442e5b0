"""What must be set before jax is imported can't itself import jax."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_startup_imports_nothing_heavy():
    script = (
        "import sys; before = set(sys.modules)\n"
        "import simclr_jax.startup\n"
        "print(*sorted({x.split('.')[0] for x in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heavy = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert heavy == {"simclr_jax"}
