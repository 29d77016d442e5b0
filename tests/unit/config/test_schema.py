"""The package knows its own fields: an installed wheel has no folder configs/."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs import common
from simclr_jax.config import defaults
from simclr_jax.config.fields import to_json
from simclr_jax.config.validate import same_recipe, validate
from simclr_jax.errors import RequestError

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
sys.modules["configs"] = None  # `import configs` fails
try:
    import configs
except ImportError:
    print("no configs")
from simclr_jax.config import defaults
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
config = defaults.get_config()
validate(config)
print("valid")
config.optimizer.lrr = 1.0
try:
    validate(config)
except RequestError as error:
    print(error)
"""


def test_a_config_is_validated_where_there_is_no_folder_configs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=str(ROOT))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "no configs",
        "valid",
        "config.optimizer.lrr: no such field; did you mean optimizer.lr?",
    ]


def test_recipes_start_from_the_packages_fields():
    for name in common.__all__:
        assert getattr(common, name) is getattr(defaults, name)


def test_a_field_younger_than_a_workdir_must_have_its_default():
    """Also where nobody hands the defaults over."""
    config = defaults.get_config()
    made = json.loads(to_json(config))
    del made["remat"]
    same_recipe(made, config, "runs/old")
    config.remat = True
    with pytest.raises(RequestError, match=r"remat: runs/old was made with False, not"):
        same_recipe(made, config, "runs/old")


def test_a_damaged_file_may_be_skipped_by_a_run_that_goes_on():
    config = defaults.get_config()
    made = json.loads(to_json(config))
    config.data.skip_damaged = 3
    same_recipe(made, config, "runs/old")
    del made["data"]["skip_damaged"]  # a workdir from before there was the field
    same_recipe(made, config, "runs/old")


def test_the_default_recipe_is_valid():
    validate(defaults.get_config())


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"optimizer.lr": 1e39},
            r"optimizer\.lr: 1e\+39 is more than float32 can hold",
        ),
        ({"batch_size": 2**31}, r"batch_size: .* at most 2147483647"),
        ({"epochs": 10**30}, r"epochs: .* at most 2147483647"),
        ({"augment.size": 10**6}, r"augment\.size: .* at most 8192"),
        ({"projector.dim": 10**9}, r"projector\.dim: .* at most 1048576"),
        ({"encoder.width": 1e30}, r"encoder\.width: .* 0 to 64"),
        ({"optimizer.lr": 1e-39}, r"optimizer\.lr: 1e-39 is not a number that float32"),
        ({"optimizer.lr": 0.0}, r"optimizer\.lr: 0\.0 is not a number above 0"),
        ({"probe.optimizer.lr": 1e39}, r"probe\.optimizer\.lr: .* float32"),
        ({"finetune.scratch_lr": 1e-46}, r"finetune\.scratch_lr: .* float32"),
        ({"distill.temperature": 1e-50}, r"distill\.temperature: .* float32"),
        ({"method.temperature": 1e39}, r"method\.temperature: .* float32"),
        ({"augment.brightness": 1e39}, r"augment\.brightness: .* float32"),
        ({"optimizer.weight_decay": 1e39}, r"optimizer\.weight_decay: .* float32"),
        (
            {"optimizer.lr": 1e38, "optimizer.lr_scaling": "sqrt"},
            r"optimizer\.lr: lr times 16, for the batch of 256, must",
        ),
        (
            {"encoder.sk": True, "encoder.width": 1 / 64},
            r"encoder\.width: 0\.015625 is too narrow for selective kernels",
        ),
        (
            {"distill.encoder.sk": True, "distill.encoder.width": 1 / 64},
            r"distill\.encoder\.width: 0\.015625 is too narrow",
        ),
    ],
)
def test_what_float32_or_a_network_cannot_hold_is_named(fields, message):
    config = defaults.get_config()
    config.encoder.stem = "imagenet"
    config.update_from_flattened_dict(fields)
    with pytest.raises(RequestError, match=rf"^config\.{message}"):
        validate(config)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"method.decoupled": "half"}, r"method\.decoupled: 'half' is not one of"),
        (
            {"method.name": "barlow_twins", "method.redundancy": -1.0},
            r"method\.redundancy: -1\.0 is not a number of at least 0",
        ),
        (
            {"method.name": "vicreg", "method.variance": -1.0},
            r"method\.variance: -1\.0 is not a number of at least 0",
        ),
        (
            {"method.name": "vicreg", "method.decoupled": True},
            r"method\.decoupled: vicreg has no such option; it takes: invariance",
        ),
        (
            {"method.name": "vicreg", "predictor.hidden": 8},
            r"predictor\.hidden: vicreg has no predictor",
        ),
        (
            {"method.name": "simsiam", "probe.target": True},
            r"probe\.target: simsiam has no target network",
        ),
    ],
)
def test_options_of_methods_without_negatives(fields, message):
    config = defaults.get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(RequestError, match=rf"^config\.{message}"):
        validate(config)


def test_an_older_workdir_continues_without_the_methods_new_options():
    config = defaults.get_config()
    made = json.loads(to_json(config))
    for name in ("decoupled", "redundancy", "invariance", "variance", "covariance"):
        del made["method"][name]
    same_recipe(made, config, "runs/old")
    config.method.decoupled = True
    with pytest.raises(RequestError, match="decoupled"):
        same_recipe(made, config, "runs/old")
