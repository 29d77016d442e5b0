"""Imports run down only: a room of the house uses those below it and nothing above.

Imports inside functions count too. CONTRIBUTING.md has the rooms from top to bottom.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "simclr_jax"

# From top to bottom; rooms of one line do not know each other.
LAYERS = (
    ("__main__",),
    ("launch",),  # launch.py, and the room behind it
    ("commands",),
    ("sweep",),
    ("stages",),
    ("report",),
    ("pretrained",),
    ("experiment",),
    ("config",),
    ("data", "checkpoint", "evaluation", "training", "methods", "export"),
    ("networks", "microbatches"),
    ("encoders", "heads", "augment"),
    ("losses",),
    ("devices",),
    ("processes",),
    ("signals", "files"),
    ("startup",),
    ("errors",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# Nothing of ours but what is named here.
ALONE = {"losses": (), "augment": (), "encoders": (), "heads": ()}


def sources():
    """Every module of ours: its dotted name and its file."""
    found = {"launch": ROOT / "launch.py"}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


SOURCES = sources()


def room(module: str) -> str:
    """The room of a dotted name: "data" of "simclr_jax.data.tfds"."""
    parts = module.split(".")
    if parts[0] != "simclr_jax":
        return parts[0]
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path):
    """Every module that a file imports, anywhere in it, by its dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports with the package's name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in SOURCES else node.module


@pytest.mark.parametrize("module", [x for x in SOURCES if x != "simclr_jax"])
def test_imports_run_down_only(module):
    own = room(module)
    for target in imports(SOURCES[module]):
        there = room(target)
        if not target.startswith("simclr_jax") or there in ("", own):
            continue
        assert RANK[own] < RANK[there], f"{module} imports {target}, which is above it"
        if own in ALONE:
            assert there in ALONE[own], f"{module} must not know {target}"


@pytest.mark.parametrize("own", ["data", "training", "evaluation", "methods"])
def test_what_is_below_the_config_does_not_speak_of_it(own):
    """It names its own arguments; `experiment.preflight` knows their fields."""
    for module, path in SOURCES.items():
        if room(module) == own:
            spoken = re.findall(r"(?<![\w.])config\.\w+", path.read_text())
            assert not spoken, (module, spoken)


def test_every_room_has_its_place():
    assert {room(module) for module in SOURCES} - {""} <= set(RANK)


@pytest.mark.parametrize(
    "package, home",
    [
        ("tensorflow", "data"),
        ("tensorflow_datasets", "data"),
        ("orbax", "checkpoint"),
        ("matplotlib", "report"),
        ("safetensors", "export"),
        ("jax2onnx", "export"),
        ("onnxruntime", "export"),
        ("pyarrow", "export"),
        ("wandb", "experiment"),
        ("mlflow", "experiment"),
    ],
)
def test_heavy_packages_have_one_home(package, home):
    for module, path in SOURCES.items():
        if any(target.split(".")[0] == package for target in imports(path)):
            assert room(module) == home, f"{module} imports {package}"


@pytest.mark.parametrize("own", ["losses", "augment"])
def test_losses_and_augmentation_need_jax_only(own):
    allowed = {"jax", "simclr_jax", "__future__"}
    standard = {"collections", "functools", "math", "typing"}
    for module, path in SOURCES.items():
        if room(module) == own:
            found = {target.split(".")[0] for target in imports(path)}
            assert found <= allowed | standard, module
