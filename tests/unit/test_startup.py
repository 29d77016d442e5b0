"""What must be set before jax is imported can't itself import jax."""

import importlib.metadata
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from as_cuda import run

from simclr_jax import startup

ROOT = Path(__file__).parents[2]


def test_startup_imports_nothing_heavy():
    script = (
        "import sys; before = set(sys.modules)\n"
        "import simclr_jax.startup\n"
        "print(*sorted({x.split('.')[0] for x in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heavy = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert heavy == {"simclr_jax"}


# The compilation cache ------------------------------------------------------------


def test_autotuning_results_lie_next_to_the_compiled_steps(tmp_path):
    """What XLA is asked for, as jax hands it over."""
    done = run(
        "startup.set_compilation_cache()\n"
        "from jax._src import compiler\n"
        "options = compiler.get_compile_options(1, 1).executable_build_options\n"
        "debug = options.debug_options\n"
        "print(debug.xla_gpu_per_fusion_autotune_cache_dir, file=sys.stderr)\n"
        "print(repr(debug.xla_gpu_kernel_cache_file), file=sys.stderr)\n",
        JAX_COMPILATION_CACHE_DIR=str(tmp_path),
    )
    folder = tmp_path / "xla_gpu_per_fusion_autotune_cache_dir"
    assert done.stderr.splitlines() == [str(folder), "''"]


@pytest.mark.parametrize("kind", ["file", "below a file", "read-only", "new", "none"])
def test_one_line_for_a_cache_that_cannot_be_written(
    tmp_path, monkeypatch, capsys, kind
):
    (tmp_path / "file").touch()
    folder = {"none": "", "read-only": tmp_path}.get(kind, tmp_path / kind)
    folder = tmp_path / "file" / "xla" if kind == "below a file" else folder
    if kind == "read-only":  # whoever runs this may write anywhere
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "all")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
    with warnings.catch_warnings():
        startup.set_compilation_cache()
        for doing in ("reading", "writing") if folder else ():
            warnings.warn(  # as jax does
                f"Error {doing} persistent compilation cache entry for 'f': x",
                stacklevel=1,
            )
    told = capsys.readouterr().err
    bad = kind not in ("new", "none")
    assert told.count("\n") == told.count(f"can't be kept in {folder}") == bad
    kept = "" if kind in ("file", "below a file") else str(folder)
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == kept
    xla = os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"]
    assert xla == ("none" if bad else "all")
    assert os.listdir(tmp_path) == ["file"]


# Deterministic GPU operations -----------------------------------------------------

FLAG = "--xla_gpu_deterministic_ops=true"
SHOW = "print(os.environ.get('XLA_FLAGS', ''), file=sys.stderr)\n"


@pytest.mark.parametrize(
    "call, before, after",
    [
        ("set_deterministic(True)", "", FLAG),
        ("set_deterministic(True)", "--xla_foo=1", f"--xla_foo=1 {FLAG}"),
        ("set_deterministic(True)", FLAG, FLAG),
        ("set_deterministic(False)", "", ""),
        ("has_cuda = lambda: False; startup.set_deterministic(True)", "", ""),
    ],
)
def test_the_flag_is_set_where_it_matters(call, before, after):
    done = run(f"startup.{call}\n{SHOW}", XLA_FLAGS=before)
    assert done.stderr.strip() == after


def test_the_flag_must_come_before_the_first_device():
    """An imported jax does not matter; XLA knows the flag, or it would abort."""
    script = (
        "import jax\n"
        "startup.set_deterministic(True)\n"
        "jax.devices()\n"
        "startup.set_deterministic(True)\n"  # it is set already
        "os.environ['XLA_FLAGS'] = ''\n"
        "from simclr_jax.errors import RequestError\n"
        "try:\n"
        "    startup.set_deterministic(True)\n"
        "except RequestError as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    done = run(script)
    assert done.returncode == 0, done.stderr
    message = f"config.deterministic: jax has used a device .* XLA_FLAGS={FLAG} before"
    assert re.match(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("jaxlib", ["0.10.1", "0.11.1", "0.12.0.1"])
def test_a_jaxlib_that_was_not_tested_gets_no_fusion_flag(monkeypatch, jaxlib):
    """XLA aborts the process on a flag that it does not know."""
    monkeypatch.setattr(importlib.metadata, "version", {"jaxlib": jaxlib}.__getitem__)
    monkeypatch.setenv("XLA_FLAGS", "--users=own")
    startup.set_cpu_flags()
    assert os.environ["XLA_FLAGS"] == "--users=own"


@pytest.mark.parametrize(
    "jaxlib, fusions", [("0.10.2", {"DOT", "REDUCE", "ELTWISE"}), ("0.11.2", {"DOT"})]
)
def test_a_jaxlib_that_was_tested_gets_the_fusion_flag(monkeypatch, jaxlib, fusions):
    monkeypatch.setattr(importlib.metadata, "version", {"jaxlib": jaxlib}.get)
    monkeypatch.setattr(startup, "_jax_has_a_device", lambda: False)
    monkeypatch.setenv("XLA_FLAGS", "--users=own")
    startup.set_cpu_flags()
    startup.set_cpu_flags()  # once is enough
    assert os.environ["XLA_FLAGS"].startswith("--users=own --xla_cpu_experimental_ynn")
    assert os.environ["XLA_FLAGS"].count("ynn_fusion_type") == 1
    values = os.environ["XLA_FLAGS"].partition("ynn_fusion_type=")[2].split(",")
    assert set(values) == {f"LIBRARY_FUSION_TYPE_{name}" for name in fusions}


# The features of a ResNet in inference, in bfloat16 as in float32.
FEATURES = """
import simclr_jax
simclr_jax.set_cpu_flags()
import jax, jax.numpy as jnp
from simclr_jax.encoders import ResNet
images = jax.random.uniform(jax.random.key(0), (64, 32, 32, 3))
def features(dtype, variables=None):
    net = ResNet(depth=10, width=1 / 16, stem="cifar", dtype=dtype)
    if variables is None:
        variables = jax.jit(lambda key: net.init(key, images, False))(jax.random.key(1))
    return variables, jax.jit(lambda v: net.apply(v, images, False))(variables)
variables, exact = features(jnp.float32)
_, rounded = features(jnp.bfloat16, variables)
print(jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jaxlib", sorted(startup._FUSIONS))
def test_bfloat16_features_are_those_of_float32_up_to_rounding(jaxlib):
    """bfloat16 keeps 8 bits: each number is off by 2^-9 at most, 0.2 %. With its own
    fusions, jaxlib 0.11.2 gives NaN here."""
    if importlib.metadata.version("jaxlib") != jaxlib:
        pytest.skip(f"the jaxlib here is not {jaxlib}")
    plain = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", FEATURES],
        cwd=ROOT,
        env=plain | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 0.02
