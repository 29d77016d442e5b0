"""What the public functions look like: keys, options, docstrings, types."""

import importlib
import inspect
import re

import pytest

import simclr_jax

LIBRARY = (
    "losses",
    "augment",
    "encoders",
    "heads",
    "methods",
    "microbatches",
    "networks",
    "evaluation",
    "checkpoint",
    "training.optimizers",
)


def public(module_name: str):
    """The functions and classes that a module of the library gives to its users."""
    module = importlib.import_module(f"simclr_jax.{module_name}")
    listed = getattr(module, "__all__", None)
    for name, thing in vars(module).items():
        ours = getattr(thing, "__module__", "").startswith("simclr_jax")
        if name.startswith("_") or not ours or not callable(thing):
            continue
        if name in listed if listed else thing.__module__ == module.__name__:
            yield name, thing


FUNCTIONS = [
    pytest.param(thing, id=f"{module}.{name}")
    for module in LIBRARY
    for name, thing in public(module)
    if inspect.isfunction(thing)
]
THINGS = [
    pytest.param(thing, id=f"{module}.{name}")
    for module in LIBRARY
    for name, thing in public(module)
]


def test_there_is_something_to_look_at():
    names = {name for module in LIBRARY for name, _ in public(module)}
    assert {"nt_xent", "two_views", "ResNet", "Projector", "make", "knn"} <= names


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_key_comes_first(function):
    names = list(inspect.signature(function).parameters)
    assert "rng" not in names
    assert "key" not in names[1:]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_options_are_named(function):
    """What has a default is passed by name, but for an optional array and a name."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "name":
            optional_array = parameter.default is None
            assert parameter.default is parameter.empty or optional_array, name


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_argument_is_typed(function):
    signature = inspect.signature(function)
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not parameter.empty, name
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("thing", THINGS)
def test_everything_public_is_documented(thing):
    assert inspect.getdoc(thing)


def described(function) -> dict[str, str]:
    """What the docstring's Args say of each argument; one entry may name several."""
    section = re.search(r"^Args:\n((?:  .*\n?|\n)*)", inspect.getdoc(function), re.M)
    entries: dict[str, str] = {}
    names: list[str] = []
    for line in (section[1] if section else "").splitlines():
        if start := re.match(r"  (\*{0,2}\w+(?:, \*{0,2}\w+)*): ", line):
            names = start[1].replace("*", "").split(", ")
        for name in names:
            entries[name] = entries.get(name, "") + line
    return entries


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_docstring_describes_every_argument(function):
    """Under Args, by name; arrays with their shapes. A single one may do without Args
    what the text around it says."""
    parameters = inspect.signature(function).parameters
    entries, text = described(function), inspect.getdoc(function)
    if len(parameters) > 1:
        assert set(entries) == set(parameters)
    for name, parameter in parameters.items():
        kind = str(parameter.annotation)
        if "Array" in kind and "float" not in kind and name != "key":
            assert "[" in entries.get(name, text), f"the shape of {name}"


def test_the_package_shows_its_public_face():
    for name in simclr_jax.__all__:
        assert callable(getattr(simclr_jax, name))
        assert name in dir(simclr_jax)
    with pytest.raises(AttributeError, match="no attribute 'nt_xnet'"):
        simclr_jax.nt_xnet  # noqa: B018
