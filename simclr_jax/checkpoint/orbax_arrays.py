"""Named arrays in a folder, as Orbax writes and reads them.

Orbax checks no content and leaves no step whole by itself: store.py does.
"""

import os
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from simclr_jax import processes
from simclr_jax.checkpoint import quiet, trees

quiet.hush()


def write(folder: Path, items: dict[str, dict[str, np.ndarray]]) -> None:
    """Has Orbax write all items at once, each into a folder of its own."""
    saves = {}
    for item, named in items.items():
        # Orbax rejects arrays without elements; the record describes them fully.
        if full := {name: array for name, array in named.items() if array.size}:
            saves[item] = ocp.args.PyTreeSave(trees.nest(full))
    if saves:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder, args=ocp.args.Composite(**saves))


def read(folder: Path, items: dict[str, dict]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `write`, for the given leaves; `items` is from the record."""
    arrays, restores = {}, {}
    for item, described in items.items():
        shapes = {name: shape for name, (shape, _, _) in described.items()}
        arrays[item] = {
            name: np.zeros(shape, jnp.dtype(described[name][1]))
            for name, shape in shapes.items()
            if 0 in shape
        }
        kind = ocp.RestoreArgs(restore_type=np.ndarray)
        if full := {name: kind for name, shape in shapes.items() if 0 not in shape}:
            restores[item] = ocp.args.PyTreeRestore(
                item=trees.nest(dict.fromkeys(full, 0)),
                restore_args=trees.nest(full),
                partial_restore=True,
            )
    if restores:
        with _checkpointer() as checkpointer:
            args = ocp.args.Composite(**restores)
            stored = checkpointer.restore(folder, args=args)
        for item in restores:
            arrays[item] |= trees.named_leaves(stored[item])
    return arrays


def _checkpointer() -> ocp.Checkpointer:
    """Orbax, which by default would wait for the other processes."""
    if processes.count() == 1:
        return ocp.Checkpointer(ocp.CompositeCheckpointHandler())
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="process_0"
    )
    composite = ocp.CompositeOptions(multiprocessing_options=alone)
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(composite_options=composite),
        multiprocessing_options=alone,
    )


def cause(error: BaseException) -> str:
    """One line: the system's error text if there is one, also from within Orbax."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line[:200]}"
