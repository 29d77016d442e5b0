"""The one entry point: flags -> config -> stages.

    python launch.py --config=configs/cifar10.py --workdir=runs/cifar10
    python launch.py --config=configs/demo.py --workdir=runs/a --config.epochs=5
    python launch.py --config=configs/small_batch.py --workdir=runs/study --sweep

The same command continues an interrupted run. Exit codes: 0 done, 1 the machine
failed us, 2 the request is wrong, 3 the training diverged, 75 stopped by a signal.
"""

import importlib.metadata
import importlib.util
import os
import re
import sys
from typing import Any, NamedTuple

# XLA's default code for a convolution's gradient by its kernel is slow on the CPU; the
# fusions replace it. An unknown flag or value aborts XLA: only versions it ran with.
_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_FUSIONS = ("DOT", "REDUCE", "ELTWISE")
_FUSION_JAXLIBS = ("0.10.2",)


# glibc: ask the kernel for huge pages behind big blocks.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_HUGE_PAGES_SETTING = "/sys/kernel/mm/transparent_hugepage/enabled"


def use_huge_pages() -> None:
    """Starts this Python process again, with huge pages where they are to be asked for.

    On a CPU a step's temporaries, gigabytes of them, are allocated anew each time.
    Handing them out in pages of 4 KiB took a quarter of the processors' time. The C
    library reads the setting only when a process starts, hence the second start, 20 ms.
    Not done if GLIBC_TUNABLES is set already, or jax has a CUDA plugin.
    """
    try:
        with open(_HUGE_PAGES_SETTING) as file:
            on_request = "[madvise]" in file.read()
    except OSError:  # not Linux, or a kernel without them
        return
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    on_gpu = any(map(importlib.util.find_spec, plugins))
    if on_request and not on_gpu and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = _HUGE_PAGES
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def set_cpu_flags() -> None:
    """Adds the CPU fusion flag to XLA_FLAGS; before jax is imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    tested = importlib.metadata.version("jaxlib") in _FUSION_JAXLIBS
    if tested and _FUSION_FLAG not in flags:
        values = ",".join(f"LIBRARY_FUSION_TYPE_{name}" for name in _FUSIONS)
        os.environ["XLA_FLAGS"] = f"{flags} {_FUSION_FLAG}={values}".strip()


def set_compilation_cache() -> None:
    """Keeps compiled steps in the user's cache folder; before jax is imported.

    JAX_COMPILATION_CACHE_DIR names another folder, empty for none.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", os.path.join(home, "simclr_jax", "xla")
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


class Request(NamedTuple):
    """What the command line asks for."""

    config: Any
    workdir: str
    recipe: str  # configs/NAME.py[:variant]
    sweep: bool
    seeds: str
    index: int | None
    table: bool


def parse(argv: list[str]) -> Request:
    """The command line.

    Raises:
      RequestError: whatever is wrong with it, in one line.
    """
    from absl import flags
    from ml_collections import config_flags

    from simclr_jax.errors import RequestError

    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The recipe, configs/NAME.py[:variant].",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", None, "The folder of this run.", flag_values=values)
    for name, meaning in (
        ("sweep", "Run every row of the recipe's sweep() with every seed."),
        ("table", "With --sweep: only collect what is finished."),
    ):
        flags.DEFINE_bool(name, False, meaning, flag_values=values)
    flags.DEFINE_string("seeds", "0,1,2", "With --sweep.", flag_values=values)
    flags.DEFINE_integer(
        "index", None, "With --sweep: run this point only.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this text.", flag_values=values)
    line = " ".join(argv[1:])
    for recipe in re.findall(r"(?:^|\s)--?config[= ]([^\s:]+)", line):
        if not os.path.isfile(recipe):
            raise RequestError(f"--config: no recipe {recipe!r}; see configs/")
    try:
        rest = values(argv)[1:]
        if values.help:
            print(f"{__doc__}\n{values.get_help()}\nFields: see configs/common.py")
            raise SystemExit(0)
        config = values.config
    except Exception as error:  # config_flags raises whatever the recipe raised
        raise RequestError(_explain(error, argv)) from error
    if rest:
        raise RequestError(f"{rest[0]}: not a flag{_with_dashes(rest[0])}")
    if config is None:
        raise RequestError("--config: missing; for example --config=configs/demo.py")
    if not values.workdir:
        raise RequestError("--workdir: missing; for example --workdir=runs/demo")
    if not values.sweep:
        for name in ("seeds", "index", "table"):
            if values[name].present:
                raise RequestError(f"--{name}: goes with --sweep")
    if values.table and values.index is not None:
        raise RequestError("--table: collects all points; leave --index out")
    given = config_flags.get_override_values(values["config"])
    if "method.name" in given:
        from simclr_jax import config as config_lib

        recipes = str(values["config.method.name"].default)
        config_lib.leave_recipes_method(config, recipes, given)
    recipe = config_flags.get_config_filename(values["config"])
    own = (values.sweep, values.seeds, values.index, values.table)
    return Request(config, values.workdir, recipe, *own)


def _explain(error: Exception, argv: list[str]) -> str:
    """One line that names the flag, of whatever absl or the recipe raised."""
    from simclr_jax import config as config_lib

    # config_flags wraps what a recipe raises in the text of its traceback.
    text = str(error).strip()
    text = " ".join((text.splitlines()[-1] if "Traceback" in text else text).split())
    overrides = [re.match(r"--(config\.[\w.]+)(?:=(.*))?$", arg) for arg in argv[1:]]
    for match in filter(None, overrides):
        field, value = match.groups()
        leaf = field.rsplit(".", 1)[-1]
        if isinstance(error, AttributeError | KeyError) and leaf in text:
            path = field.removeprefix("config.")
            return f"{field}: no such field{config_lib.similar(path, _fields())}"
        if field in text or (
            isinstance(error, TypeError | ValueError) and (value and value in text)
        ):
            return f"{field}: {value!r} does not fit the field; {text}"
    return text if text.startswith(("flag", "Unknown")) else f"--config: {text}"


def _fields() -> list[str]:
    """Every field of a recipe, as `optimizer.lr`."""
    from configs import common
    from simclr_jax.config import flatten

    return [path for path, _ in flatten(common.get_config())]


def _with_dashes(word: str) -> str:
    """What `lr=3` was probably meant to be."""
    name, equals, value = word.partition("=")
    meant = [path for path in _fields() if f".{path}".endswith(f".{name}")]
    shortest = min(meant, key=len, default="")
    return f"; write --config.{shortest}={value}" if equals and meant else ""


def run(config, workdir: str) -> None:
    """Checks the request, then runs the stages that are not done yet."""
    from configs import common
    from simclr_jax import config as config_lib
    from simclr_jax import workdir as workdir_lib

    known = common.get_config()
    config_lib.validate(config, known)
    workdir_lib.check(workdir, config, known)

    from simclr_jax import stages

    stages.run(config, workdir)


def run_sweep(request: Request, argv: list[str]) -> None:
    """Checks all points of the recipe's sweep, then runs or collects them."""
    from configs import common
    from simclr_jax import sweep, sweep_plan, sweep_results
    from simclr_jax.errors import RequestError

    rows = sweep_plan.load(request.recipe)
    seeds = sweep_plan.seeds_of(request.seeds)
    points = sweep_plan.points(rows, request.config, seeds, request.workdir)
    if request.index is not None and not 0 <= request.index < len(points):
        raise RequestError(
            f"--index: {request.index} is not one of the {len(points)} points, 0 to "
            f"{len(points) - 1}: {len(rows.rows)} rows with the first seed, then with "
            "the next"
        )
    sweep_plan.check(
        rows, points, argv[1:], common.get_config(), to_run=not request.table
    )
    if request.table:
        print(sweep_results.collect(rows, points, request.workdir))
    elif request.index is None:
        sweep.run(rows, points, request.workdir, argv)
    else:
        sweep.run_one(points, request.index)


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    from simclr_jax.errors import (
        DivergedError,
        FailedError,
        RequestError,
        StoppedError,
    )

    try:
        request = parse(argv)
        if request.sweep:
            run_sweep(request, argv)
        else:
            run(request.config, request.workdir)
    except (RequestError, DivergedError, StoppedError, FailedError) as error:
        kind = "stopped" if isinstance(error, StoppedError) else "error"
        print(f"{kind}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # what XLA raises
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).splitlines()[0]
        print(
            f"error: {first}; lower config.batch_size, or set config.microbatch or "
            "config.remat=True",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    use_huge_pages()
    set_cpu_flags()
    set_compilation_cache()
    from simclr_jax.signals import catch_signals

    catch_signals()
    sys.exit(main(sys.argv))
