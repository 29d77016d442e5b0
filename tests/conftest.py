"""Shared test set-up: two virtual CPU devices, no silent rank promotion."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def compile_in_haste():
    """For modules whose time would go to optimising programs that run once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# Files of whole runs, the longest first: with one file left two workers become one.
_FIRST = ("test_launch", "test_report", "test_distill", "test_sweep", "test_recipes")


def pytest_collection_modifyitems(items):
    def rank(item):
        name = item.path.stem
        return _FIRST.index(name) if name in _FIRST else len(_FIRST)

    items.sort(key=rank)  # stable: all else stays as it was
