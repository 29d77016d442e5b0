"""Writes the constraints file of the Python that runs it: `make pins`.

pip resolves all that pyproject.toml names, with jax's builds for CUDA, and installs
nothing. A version that the file has already is kept: for newer ones, first remove their
lines. A package that nothing needs any more is dropped. Comments stay.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
FILE = FOLDER / "{}.{}.txt".format(*sys.version_info)
# The CUDA builds exclude each other, so each takes part in a resolution of its own.
EXTRAS = ("test,cuda12", "test,cuda13")


def resolve(requirements, pins):
    """{package: version} of what pip would install with `pins` for this Python."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{n}=={v}\n" for n, v in pins.items()))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", f"--report={report}", *requirements]
        env = os.environ | {"PIP_CONSTRAINT": str(constraints)}
        subprocess.run(command, cwd=FOLDER.parent, env=env, check=True)
        found = json.loads(report.read_text())["install"]
    names = [(x["metadata"]["name"], x["metadata"]["version"]) for x in found]
    return {name: version for name, version in names if name != "simclr-jax"}


def main():
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    comments = [line for line in lines if line.startswith("#")]
    pins = dict(line.split("==") for line in lines if "==" in line)
    build = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())[
        "build-system"
    ]
    resolved = {}
    for extras in EXTRAS:
        wanted = [f".[{extras}]", *build["requires"], "editables"]
        resolved |= resolve(wanted, pins | resolved)
    ordered = sorted(resolved.items(), key=lambda pin: pin[0].lower())
    FILE.write_text("\n".join(comments + [f"{n}=={v}" for n, v in ordered]) + "\n")


if __name__ == "__main__":
    main()
