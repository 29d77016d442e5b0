"""constraints/ pins all that pyproject.toml installs, for each Python that it lists."""

import importlib.metadata
import re
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from packaging.version import Version

from simclr_jax import errors

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CLASSIFIER = r"Programming Language :: Python :: (3\.\d+)"
PYTHONS = [
    found[1] for x in PROJECT["classifiers"] if (found := re.fullmatch(CLASSIFIER, x))
]
NAME = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!+-]+")


def pins(python):
    """{package: version} of a file, whose lines are comments or exact versions."""
    lines = (ROOT / f"constraints/{python}.txt").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert all(map(NAME.fullmatch, lines)), lines
    pairs = [line.split("==") for line in lines]
    found = {canonical(name): Version(version) for name, version in pairs}
    assert len(found) == len(pairs), "a package is listed twice"
    return found


def platform(python):
    """What a marker sees on the Linux machines that the files are for."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "sys_platform": "linux",
    }


def direct(python):
    """The requirements that pyproject.toml names itself, with all extras."""
    lists = [PYPROJECT["build-system"]["requires"], PROJECT["dependencies"]]
    lists += PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, [line for lines in lists for line in lines]):
        here = requirement.marker is None or requirement.marker.evaluate(
            platform(python)
        )
        if here and requirement.name != PROJECT["name"]:
            yield requirement


def installed(name):
    try:
        return Version(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return None


def test_each_listed_python_has_a_file():
    assert PYTHONS == ["3.11", "3.12", "3.13"]
    files = sorted(path.stem for path in (ROOT / "constraints").glob("*.txt"))
    assert files == PYTHONS
    assert list(errors.PINNED_PYTHONS) == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert PYPROJECT["tool"]["pyright"]["pythonVersion"] == PYTHONS[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py311"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_pyproject_names_is_pinned_within_its_bounds(python):
    pinned, wanted = pins(python), list(direct(python))
    assert len(wanted) > 25
    for requirement in wanted:
        version = pinned[canonical(requirement.name)]
        assert version in requirement.specifier, (requirement, version)
    assert ("tensorflow-cpu" in pinned, "tensorflow" in pinned) == (True, False)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_parts_of_jax_are_of_one_version(python):
    pinned = pins(python)
    parts = {n: v for n, v in pinned.items() if re.fullmatch("jax(lib|-cuda.*)?", n)}
    builds = {f"jax-cuda{x}-{y}" for x in (12, 13) for y in ("plugin", "pjrt")}
    assert parts.keys() == builds | {"jax", "jaxlib"}
    assert len(set(parts.values())) == 1, parts


def test_all_pythons_are_checked_with_the_same_tools():
    tools = ("pytest", "pytest-xdist", "ruff", "pyright", "hatchling")
    for tool in tools:
        assert len({pins(python)[tool] for python in PYTHONS}) == 1, tool


def test_what_the_requirements_need_is_pinned_too():
    """Of the Python that runs this, whose installed packages tell what they need."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if python not in PYTHONS or installed("tensorflow-cpu") is None:
        pytest.skip("the environment is not one that `make test` installs")
    pinned, left, seen = pins(python), list(direct(python)), set()
    while left:
        requirement = left.pop()
        name, extras = canonical(requirement.name), requirement.extras or {""}
        assert name in pinned, requirement
        # Another version may need other packages. A CPU has no CUDA builds.
        if (name, *sorted(extras)) in seen or installed(name) != pinned[name]:
            continue
        seen.add((name, *sorted(extras)))
        for need in map(Requirement, importlib.metadata.requires(name) or []):
            environments = [platform(python) | {"extra": extra} for extra in extras]
            if not need.marker or any(map(need.marker.evaluate, environments)):
                left.append(need)
    assert len(seen) > 60


@pytest.mark.parametrize(
    "version, pinned",
    [
        ((3, 12, 3), "-c constraints/3.12.txt "),
        ((3, 13, 0), "-c constraints/3.13.txt "),
        ((3, 14, 0), ""),
    ],
)
def test_a_missing_package_is_advised_for_this_python(monkeypatch, version, pinned):
    monkeypatch.setattr(sys, "version_info", version)
    own = ROOT / ".venv"
    for prefix, python in ((own, ".venv/bin/python"), ("/a", sys.executable)):
        monkeypatch.setattr(sys, "prefix", str(prefix))
        # Editable, as make installs: else later changes of the clone change nothing.
        command = f"{python} -m pip install {pinned}-e '.[demo]'"
        assert errors.install("demo") == f"in the clone: {command}"


def test_a_test_fails_on_what_the_libraries_call_deprecated():
    """Whether the warning names the caller as the culprit, or the library itself."""
    for module in ("simclr_jax.networks", __name__, "jax.core", "optax._src.base"):
        with pytest.raises(DeprecationWarning, match="old"):
            warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, module)
    warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, "tensorflow.io")
