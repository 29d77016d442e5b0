"""Settings that must be made before jax is imported. Itself imports nothing slow.

`launch/main.py` makes them in this order:

early.stop_at_once()  # on a signal while packages are imported
streams.keep_stderr()
streams.print_any_name()
startup.require_packages()
startup.use_huge_pages()  # starts this Python again, so it precedes all that is slow
startup.set_cpu_flags()
startup.set_compilation_cache()
streams.filter_stderr()  # starts a process, so it precedes all threads

The stages call `set_deterministic`: only they know the config.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import TextIO

from simclr_jax.errors import RequestError, in_clone, install

# On the CPU, XLA's own code for the gradient of a convolution's kernel is slow. These
# fusions replace it. jaxlib 0.11 has them by default, but there REDUCE and ELTWISE,
# each alone, give NaN in the features of a bfloat16 ResNet in inference. DOT alone does
# not, and float32 is right with all. XLA aborts on an unknown flag or value, so only
# the jaxlib versions that were tested get the flag.
_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_FUSIONS = {"0.10.2": ("DOT", "REDUCE", "ELTWISE"), "0.11.2": ("DOT",)}
# Makes glibc ask the kernel for huge pages for large blocks.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_HUGE_PAGES_SETTING = "/sys/kernel/mm/transparent_hugepage/enabled"
_DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"


def program(argv: Sequence[str]) -> list[str]:
    """How one calls the program that `argv[0]` is, in words of a shell.

    `["simclr-jax"]`, `["python", "-m", "simclr_jax"]` or `["python", "launch.py"]`.
    """
    name = PurePath(argv[0]).name
    if name == "__main__.py":
        return ["python", "-m", "simclr_jax"]
    # The script that pip makes of an entry point has no suffix.
    return ["python", argv[0]] if name.endswith(".py") else [name]


def has_cuda() -> bool:
    """Whether jax's CUDA plugin is installed."""
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    return any(importlib.util.find_spec(name) is not None for name in plugins)


def use_huge_pages() -> None:
    """Starts this Python process again with huge pages, if the kernel grants them.

    On a CPU every step allocates its temporaries anew, gigabytes of them. In pages of
    4 KiB that took a quarter of the CPU time. The C library reads the setting only when
    a process starts, hence the second start, which takes 20 ms. Does nothing if
    GLIBC_TUNABLES is already set or jax has a CUDA plugin.
    """
    try:
        with open(_HUGE_PAGES_SETTING) as file:
            on_request = "[madvise]" in file.read()
    except OSError:  # not Linux, or a kernel without huge pages
        return
    if on_request and not has_cuda() and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = _HUGE_PAGES
        sys.stdout.flush()
        # A signal waits until the new Python takes it (`launch/early.py`): it is only
        # the mask of signals that both share.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def set_cpu_flags() -> None:
    """Chooses XLA's fusions for this CPU; call it before jax uses a device.

        import simclr_jax

        simclr_jax.set_cpu_flags()
        import jax

    The command and `simclr_jax.pretrain` do so themselves; code that takes only the
    losses, encoders or methods from this package should. It adds a flag to XLA_FLAGS,
    unless that has the flag already or this version of jaxlib was not tested. XLA reads
    its flags when jax first uses a device: if that has happened, it warns and changes
    nothing. It does not import jax.
    """
    import importlib.metadata  # slow: not before `early.stop_at_once`

    flags = os.environ.get("XLA_FLAGS", "")
    fusions = _FUSIONS.get(importlib.metadata.version("jaxlib"))
    if fusions is None or _FUSION_FLAG in flags:
        return
    values = ",".join(f"LIBRARY_FUSION_TYPE_{name}" for name in fusions)
    flag = f"{_FUSION_FLAG}={values}"
    if not _jax_has_a_device():
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
    elif not has_cuda():
        import warnings

        warnings.warn(
            "jax has used a device already, so its CPU settings stay; call "
            "simclr_jax.set_cpu_flags() before that, or start Python with "
            f"XLA_FLAGS={flag}",
            stacklevel=2,
        )


def _jax_has_a_device() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return getattr(bridge, "backends_are_initialized", lambda: False)()


def set_compilation_cache() -> None:
    """Keeps compiled steps in the user's cache folder; before jax is imported.

    JAX_COMPILATION_CACHE_DIR names another folder, empty for none. What XLA found when
    it timed a GPU's operations is kept in a folder inside. That is jax's own
    default; "all" would add a cache of kernels, which did not work together with the
    cache of compiled steps (jax-ml/jax pull request 22899). If nothing can be written
    there, one line says so.
    """
    import warnings

    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", os.path.join(home, "simclr_jax", "xla")
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    os.environ.setdefault(
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES",
        "xla_gpu_per_fusion_autotune_cache_dir",
    )
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    if not folder or "://" in folder:  # none, or a bucket
        return
    # Otherwise jax warns of each program that it can't read or write.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation")
    if why := _unwritable(folder):
        os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
        if not os.path.isdir(folder):
            os.environ["JAX_COMPILATION_CACHE_DIR"] = ""
        if sys.stderr is not None:
            print(
                f"compiled steps can't be kept in {folder}: {why}; "
                "JAX_COMPILATION_CACHE_DIR names another folder",
                file=sys.stderr,
            )


def _unwritable(folder: str) -> str:
    """Why no file can be written below a folder, which may be missing; "" if one can.

    Writes nothing.
    """
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        return f"{place} is not a folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} is read-only"


def leave_speaking_to_first(process: int | None, distributed: bool) -> None:
    """Has all but process 0 print nothing, as far as that is known before jax starts.

    Args:
      process: the number on the command line; None: none is given.
      distributed: jax will find it. What it looks at is in the environment.
    """
    if process is None and distributed:
        ranks = (os.environ.get(name, "") for name in _RANKS)
        process = next((int(rank) for rank in ranks if rank.isdigit()), 0)
    if process:
        be_silent()


_RANKS = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
_speaking: list[TextIO] = []  # stderr, once this process is silent


def be_silent() -> None:
    """Drops what this process prints, except to `stderr()`."""
    if not _speaking:
        _speaking.append(sys.stderr)
        nowhere = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        sys.stdout = sys.stderr = nowhere


def stderr() -> TextIO:
    """The process's stderr, also if it is silent."""
    return _speaking[0] if _speaking else sys.stderr


def set_deterministic(wanted: bool) -> None:
    """Has XLA use GPU operations that give the same bits in every run.

    Does nothing if not wanted or if jax has no CUDA plugin: on a CPU a run repeats
    anyway. XLA reads its flags when jax first uses a device, not when jax is imported.

    Raises:
      RequestError: jax has used a device already, without this flag.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not wanted or not has_cuda() or _DETERMINISTIC_FLAG in flags:
        return
    if _jax_has_a_device():
        raise RequestError(
            "config.deterministic: jax has used a device before this run; set "
            f"XLA_FLAGS={_DETERMINISTIC_FLAG} before Python starts"
        )
    os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC_FLAG}".strip()


def missing_package() -> str:
    """What to do if a package that every run needs is missing; "" if none is."""
    needed = ("absl", "jax", "flax", "optax", "ml_collections", "orbax")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    cure = install("train")
    if in_clone():
        cure = f"use .venv/bin/python, which make demo creates, or {cure}"
    return f"{sys.executable} has no package {missing[0]}; {cure}"


def require_packages() -> None:
    """Exits with a one-line error if a package that every run needs is missing."""
    if problem := missing_package():
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
