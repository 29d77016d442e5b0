"""Shared test set-up: two virtual CPU devices, no silent rank promotion, and a
compilation cache of the tests' own."""

import atexit
import importlib.metadata
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# One temporary cache for the processes that tests start; xdist's workers inherit its
# name. Who wants to keep what was compiled names a folder of their own, never the
# user's by accident.
_CACHE, _OURS = "JAX_COMPILATION_CACHE_DIR", "simclr_jax_tests_"
if _CACHE not in os.environ:
    os.environ[_CACHE] = tempfile.mkdtemp(prefix=_OURS)
    atexit.register(shutil.rmtree, os.environ[_CACHE], ignore_errors=True)

# Tests wait for the compiler, and XLA's older way to fuse operations on a CPU takes
# half the time. A flag that XLA does not know aborts it: only versions it ran with.
_FUSION = "--xla_cpu_use_fusion_emitters="
_FLAGS = os.environ.get("XLA_FLAGS", "")
if importlib.metadata.version("jaxlib") == "0.10.2" and _FUSION not in _FLAGS:
    os.environ["XLA_FLAGS"] = f"{_FLAGS} {_FUSION}false".strip()

import jax  # noqa: E402  (reads the environment)

if _OURS in os.environ[_CACHE]:  # in here nothing is compiled twice
    jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

END_TO_END = Path(__file__).parent / "end_to_end"
_HANDLERS = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def own_signal_handlers():
    """A run in a test's own process must not leave its handlers to later tests."""
    yield
    for name, handler in _HANDLERS.items():
        signal.signal(name, handler)


@pytest.fixture(scope="module")
def compile_in_haste():
    """For modules whose time would go to optimising programs that run once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# Files of whole runs, the longest first: with one file left two workers become one.
_FIRST = (
    "test_processes",
    "test_resumption",
    "test_recipes",
    "test_whole_run",
    "test_cluster_page",
    "test_encoder_page",
    "test_distill",
    "test_sweep",
    "test_variations",
    "test_report",
    "test_learning",
)


def pytest_collection_modifyitems(items):
    def rank(item):
        name = item.path.stem
        return _FIRST.index(name) if name in _FIRST else len(_FIRST)

    for item in items:
        if item.path.is_relative_to(END_TO_END):
            item.add_marker(pytest.mark.slow)
    items.sort(key=rank)  # stable: all else stays as it was
