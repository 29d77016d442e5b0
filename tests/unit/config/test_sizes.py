"""The sizes of views of the stages with labels, where nobody sets them."""

import json

import pytest

from simclr_jax.config import command_line, defaults, recipes, sizes
from simclr_jax.config.fields import flatten, to_json
from simclr_jax.config.validate import same_recipe, validate
from simclr_jax.errors import RequestError

STAGES = ("finetune", "supervised", "distill")


def asked(*flags, recipe="folder:labelled"):
    words = [f"--config={recipe}", "--workdir=none", *flags]
    return command_line.parse(["launch.py", *words]).config


def of_stages(config):
    return tuple(config[stage].augment.size for stage in STAGES)


def older(config, **own):
    """config.json of before, when every stage had a size; `own` where it differs."""
    made = json.loads(to_json(config))
    for stage in STAGES:
        made[stage]["augment"]["size"] = own.get(stage, 128)
    return made


def test_they_follow_pretrainings():
    """Fine-tuning stayed at 128 pixels beside a pretraining at 64."""
    config = asked("--config.augment.size=64", "--config.data.stored_size=80")
    validate(config)
    assert sizes.settle(config, {}) == []
    assert of_stages(config) == (64, 64, 64)
    assert config.augment.size == 64


def test_one_that_is_asked_for_stays():
    config = asked("--config.augment.size=64", "--config.finetune.augment.size=96")
    assert sizes.settle(config, {}) == []
    assert of_stages(config) == (96, 64, 64)
    config = asked("--config.finetune.augment.size=4")
    with pytest.raises(RequestError, match=r"^config\.finetune\.augment\.size: 4 is"):
        validate(config)


# The sizes that the recipes gave their stages when each had its own.
BEFORE = {"folder": 128, "folder:labelled": 128, "demo": 28, "imagenet": 224}
BEFORE |= {"simclrv2": 224, "simclrv2:cifar10": 32, "simclrv2:cpu": 32}
BEFORE |= {"stl10": 96, "stl10:batch128": 96, "stl10:published": 224, "cifar10": 32}
BEFORE |= {"small_batch": 224, "simclrv2_networks": 224, "cifar10_cpu": 32}


@pytest.mark.parametrize("name", BEFORE)
def test_an_older_run_of_a_recipe_goes_on(name):
    config = recipes.load(name)
    made = older(config, **dict.fromkeys(STAGES, BEFORE[name]))
    assert sizes.settle(config, made) == []
    assert of_stages(config) == (BEFORE[name],) * 3
    same_recipe(made, config, "runs/old")
    new = recipes.load(name)
    sizes.settle(new, {})
    assert of_stages(new) == (BEFORE[name],) * 3


def test_an_older_run_at_another_size_keeps_its_stages_sizes():
    """Made with --config.augment.size=64, which changed pretraining alone."""
    config = asked("--config.augment.size=64")
    made = older(config, supervised=48)
    (line,) = sizes.settle(config, made)  # of the stages, the recipe has finetune only
    assert line == (
        "finetune.augment.size is 128, as when this run began; in a new --workdir it "
        "would be 64, as augment.size"
    )
    assert of_stages(config) == (128, 48, 128)
    same_recipe(made, config, "runs/old")
    config = asked("--config.augment.size=64", "--config.finetune.augment.size=64")
    sizes.settle(config, made)
    with pytest.raises(RequestError, match=r"finetune\.augment\.size: .* 128, not 64"):
        same_recipe(made, config, "runs/old")


@pytest.mark.parametrize("size", [32, 128, 64])
def test_a_run_from_before_distillation_takes_any_size_of_it(size):
    """32 was the default then, and what CHANGELOG says to give."""
    config = asked(f"--config.distill.augment.size={size}")
    made = older(config)
    del made["distill"]["augment"]["size"]
    sizes.settle(config, made)
    assert of_stages(config) == (128, 128, size)
    same_recipe(made, config, "runs/old")


def test_what_a_damaged_record_has_is_no_size():
    config = asked()
    sizes.settle(config, {"finetune": {"augment": {"size": "big"}}, "distill": 3})
    assert of_stages(config) == (128, 128, 128)


def test_the_fields_are_those_that_are_unset_by_default():
    unset = [path for path, value in flatten(defaults.get_config()) if value is None]
    found = {x for x in unset if x.endswith(".size")}
    assert found == set(sizes.FIELDS)


def test_every_shipped_recipe_leaves_them_unset():
    for recipe in recipes.shipped():
        assert of_stages(recipes.load(str(recipe.path))) == (None,) * 3, recipe.path


def test_a_recipe_of_ones_own_may_set_them(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from configs import common\n"
        "def get_config():\n"
        "    config = common.get_config()\n"
        "    config.augment.size = 64\n"
        "    config.finetune.augment = common.crop_and_flip()\n"
        "    config.distill.augment.size = 48\n"
        "    return config\n"
    )
    config = asked(recipe=path)
    sizes.settle(config, {})
    assert of_stages(config) == (32, 64, 48)
