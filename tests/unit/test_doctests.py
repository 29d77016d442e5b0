"""The examples in the docstrings do what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "losses._rows",
    "losses.contrastive",
    "losses.regression",
    "losses.statistics",
    "augment.colours",
    "augment.geometry",
    "augment.inputs",
    "augment.views",
    "encoders",
    "heads",
    "evaluation.accuracy",
    "evaluation.features",
    "evaluation.neighbours",
    "training.optimizers",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"simclr_jax.{name}")
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0
