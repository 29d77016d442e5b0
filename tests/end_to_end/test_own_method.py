"""A method of one's own, in a file outside the package, trained by launch.py."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import ROOT, launch, recipe, write_npz

from configs import common
from simclr_jax import methods
from simclr_jax.errors import RequestError
from simclr_jax.stages import pretrain

# SimSiam (arXiv 2011.10566), as the page on methods of one's own walks through it.
PAGE = (ROOT / "docs/adding_a_method.md").read_text()
SIMSIAM = PAGE.split("```python\n")[1].split("```")[0]
# A recipe that sets an option of it; the command line can change what a recipe has.
RECIPE = """
from tests.tiny_recipe import get_config as tiny
def get_config():
    config = tiny()
    config.method.weight = 2.0
    return config
"""


def test_a_file_is_a_method(tmp_path):
    assert len(SIMSIAM.strip().splitlines()) <= 35
    imports = [line for line in SIMSIAM.splitlines() if "import " in line]
    assert not any(re.search(r"\b_", line) for line in imports)  # public names only
    npz = write_npz(tmp_path / "squares.npz")
    (tmp_path / "simsiam.py").write_text(SIMSIAM)
    (tmp_path / "recipe.py").write_text(RECIPE)
    flags = [
        f"--config={tmp_path}/recipe.py",
        f"--config.data.path={npz}",
        f"--config.method.name={tmp_path}/simsiam.py",
        "--config.stages=('pretrain','knn')",
        "--config.encoder.depth=10",
        "--config.microbatch=8",
        "--config.max_steps=6",
        "--config.probe.every_epochs=0",
    ]
    done = launch(*flags, f"--workdir={tmp_path}/run", "--config.method.weight=3.0")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["pretrain"]["step"] == 6
    assert 0 <= results["knn"]["top1"] <= 1
    text = (tmp_path / "run/metrics.jsonl").read_text()
    first = json.loads(text.splitlines()[0])
    assert 3.0 < first["loss"] <= 3.0 * 8  # three times both directions, about 2 each
    assert 0 < first["embedding_std"] <= 1.01


def test_a_file_that_is_no_method(tmp_path):
    path = tmp_path / "mine.py"
    with pytest.raises(ValueError, match=r"no file .*mine\.py"):
        methods.defaults(str(path))
    path.write_text("import nothing_of_the_name")
    with pytest.raises(ValueError, match=r"ModuleNotFoundError: .*nothing_of_the_name"):
        methods.defaults(str(path))
    other = tmp_path / "yours.py"
    other.write_text("def his(encoder, *, projector): ...")
    with pytest.raises(ValueError, match="no function 'yours'"):
        methods.defaults(str(other))


def test_its_options_are_its_own(tmp_path):
    path = tmp_path / "simsiam.py"
    path.write_text(SIMSIAM)
    assert methods.defaults(str(path)) == {"weight": 1.0}
    assert methods.has_predictor(str(path))
    assert not methods.has_predictor("simclr")


def test_what_a_method_of_ones_own_lacks_is_said_before_it_trains():
    def loss(params, model_state, key, views, index=None):
        raise AssertionError("it trained")

    config = common.get_config()
    config.method.name = "mine.py"
    images = SimpleNamespace(unlabelled=SimpleNamespace(num_classes=10))
    method = SimpleNamespace(loss=loss)
    run: Any = SimpleNamespace(config=config, method=method, images=images)
    run.init = lambda: ({}, {"batch_stats": {}})
    with pytest.raises(RequestError, match=r"^config\.probe\.online: .* `features`"):
        pretrain.check_method(run)
    config.probe.online = False
    pretrain.check_method(run)
    config.probe.target = True
    with pytest.raises(RequestError, match=r"^config\.probe\.target: mine\.py has no"):
        pretrain.check_method(run)
    run.init = lambda: ({}, {"batch_stats": {}, "target": {}})
    pretrain.check_method(run)


@pytest.fixture(scope="module")
def random_target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("byol")
    npz = write_npz(folder / "squares.npz")
    done = launch(
        *recipe(npz),
        f"--workdir={folder}/run",
        "--config.method.name=byol",
        "--config.method.momentum=1.0",
        "--config.method.target_init=random",
        "--config.predictor.hidden=16",
        "--config.probe.target=True",
        "--config.stages=('pretrain','probe')",
        "--config.encoder.depth=10",
        "--config.max_steps=4",
        "--config.probe.every_epochs=0",
        "--config.warn_below_std=2.0",
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", done


@pytest.mark.thorough
def test_three_probes_of_the_random_target_in_one_table(random_target):
    """B trained, B before and A, whose weights are those it began with."""
    import jax
    import numpy as np

    from simclr_jax import checkpoint

    workdir, done = random_target
    results = json.loads((workdir / "results.json").read_text())
    three = ("pretrained", "random_init", "target")
    assert all(0 <= results["probe"][name]["top1"] <= 1 for name in three)
    for label in ("linear probe", "random encoder", "target network"):
        assert label in done.stdout
    like = {"params": None, "model_state": None}
    restored = checkpoint.restore(workdir / "checkpoints", like)
    assert restored is not None
    _, items, _ = restored
    kernel = items["params"]["encoder"]["stem_conv"]["kernel"]
    fixed = items["model_state"]["target"]["params"]["encoder"]["stem_conv"]["kernel"]
    assert not np.allclose(kernel, fixed)
    leaves = jax.tree.leaves(items["model_state"]["target"]["batch_stats"])
    assert not all(np.allclose(x, 0) or np.allclose(x, 1) for x in leaves)


def test_a_fall_of_the_embeddings_spread_is_said_once(random_target):
    _, done = random_target
    warnings = [x for x in done.stderr.splitlines() if x.startswith("warning: ")]
    assert len(warnings) == 1
    assert "embedding_std" in warnings[0]
    assert "config.warn_below_std 2" in warnings[0]
