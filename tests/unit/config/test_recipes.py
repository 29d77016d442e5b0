"""A recipe by its file or by its name, and what `configs` means inside one."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from simclr_jax.config import recipes
from simclr_jax.errors import RequestError

ROOT = Path(__file__).parents[3]
OWN = """
from configs import cifar10, common

def get_config(variant="a"):
    from configs import imagenet  # also when it is called
    config = cifar10.get_config(variant)
    config.encoder.width = 2.0
    return config
"""


def test_a_name_is_that_of_a_shipped_recipe():
    by_path = recipes.load(f"{ROOT}/configs/cifar10.py:resnet18")
    assert recipes.load("cifar10:resnet18").to_json() == by_path.to_json()
    assert recipes.find("demo") == (f"{ROOT}/configs/demo.py", "", "")


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.find("demo")[0] == f"{ROOT}/configs/demo.py"
    (tmp_path / "demo").mkdir()  # a folder is no recipe
    assert recipes.find("demo")[0] == f"{ROOT}/configs/demo.py"
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").write_text("")
    assert recipes.find("demo:x") == ("demo", ":", "x")


@pytest.mark.parametrize(
    "recipe, meant",
    [
        ("cifra10", "; did you mean --config=cifar10?"),
        ("configs/demo.py", "; did you mean --config=demo?"),  # not in this folder
        ("../configs/demo", "; did you mean --config=demo?"),
        ("cifar100:moco", "; did you mean --config=cifar10:moco?"),
        ("common", ""),  # beside the recipes, but none of them
        ("__init__", ""),
        ("", ""),
    ],
)
def test_what_is_no_recipe(tmp_path, monkeypatch, recipe, meant):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as caught:
        recipes.load(recipe)
    assert str(caught.value) == (
        f"--config: no recipe {recipe!r}{meant}; --help lists the recipes"
    )


@pytest.mark.parametrize("other", [False, True])
def test_configs_in_a_recipe_is_the_shipped_folder(tmp_path, monkeypatch, other):
    """Where this process has no such package, and where it has another one."""
    loaded = [x for x in sys.modules if x.partition(".")[0] == "configs"]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    theirs = {name: ModuleType(name) for name in ("configs", "configs.common")}
    if other:
        for name, module in theirs.items():
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "path", [x for x in sys.path if x not in ("", str(ROOT))])
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    config = recipes.load(f"{path}:resnet18")
    assert (config.encoder.depth, config.encoder.width) == (18, 2.0)
    now = {x: y for x, y in sys.modules.items() if x.partition(".")[0] == "configs"}
    if other:
        assert now == theirs
    else:
        assert now["configs"].__path__ == [f"{ROOT}/configs"]
        for name in now:
            monkeypatch.delitem(sys.modules, name)
