"""The devices of a run, and where its arrays lie on them.

There is one mesh with one axis, "data". A batch lies on it by rows. Everything else
(parameters, optimizer state, a resident data set) lies whole on every device, or, if it
is `spread`, each device has a part of every large array. XLA then splits the work and
adds the collectives, so that plain `jax.jit` is all that the callers need. With one
device there is no mesh, nothing is placed, and jax's default device is used.

With several processes the mesh has the devices of all of them. Each process puts onto
its own what lies there; no array is sent. Only an array that lies whole can be read.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from simclr_jax import processes

_AXIS = "data"
# Parts of a batch that have no row for each image. Whoever makes them places them once.
_SHARED = ("dataset", "teacher")
# `spread` splits arrays of more bytes. Smaller ones cost more to send than to keep.
SPREAD_ABOVE = 2**20

_mesh: Mesh | None = None  # None: one device


def use(number: int = 0) -> None:
    """Chooses the devices of this process: the first `number`; 0 means all.

    Call it before anything is placed. Without a call one device is used.

    Raises:
      ValueError: there are fewer, or several processes are to use only some.
    """
    global _mesh
    found = jax.devices()
    if not 0 <= number <= len(found):
        raise ValueError(f"{number} devices asked for, {len(found)} found")
    if number not in (0, len(found)) and processes.count() > 1:
        raise ValueError("several processes use all devices; set 0")
    chosen = found[: number or len(found)]
    # By default the axes of a mesh are Explicit, and every array's type then says how
    # it is sharded.
    auto = (AxisType.Auto,)
    _mesh = (
        jax.make_mesh((len(chosen),), (_AXIS,), axis_types=auto, devices=chosen)
        if len(chosen) > 1
        else None
    )


def available() -> int:
    """How many devices there are."""
    return len(jax.devices())


def count() -> int:
    """How many devices are used."""
    return _mesh.size if _mesh else 1


def mesh() -> Mesh | None:
    """The mesh; None with one device."""
    return _mesh


def rows(axis: int = 0) -> NamedSharding | None:
    """The sharding of an array that is split along `axis`; None with one device."""
    spec = PartitionSpec(*[None] * axis, _AXIS)
    return NamedSharding(_mesh, spec) if _mesh else None


def whole() -> NamedSharding | None:
    """The sharding of what lies whole on every device; None with one device."""
    return NamedSharding(_mesh, PartitionSpec()) if _mesh else None


def spread(abstract: Any, fsdp: bool) -> Any:
    """Where the arrays of a network, or of a training's state, lie.

    With `fsdp` an array of over 1 MiB is split along its largest axis among those that
    the devices divide (the last of equal ones). All others lie whole on every device.

    Args:
      abstract: a tree of arrays, or of their shapes and dtypes.
      fsdp: `config.fsdp`; False: everything lies whole.

    Returns:
      The tree of their shardings; None with one device.
    """
    if _mesh is None:
        return None
    return jax.tree.map(lambda x: _part(x) if fsdp else whole(), abstract)


def _part(x: Any) -> NamedSharding | None:
    axes = [axis for axis, size in enumerate(x.shape) if divides(size)]
    if x.size * x.dtype.itemsize <= SPREAD_ABOVE or not axes:
        return whole()
    return rows(max(axes, key=lambda axis: (x.shape[axis], axis)))


def divides(size: int) -> bool:
    """Whether every device gets the same number of `size` rows."""
    return size % count() == 0


def round_up(size: int) -> int:
    """The next number, from `size` on, that `divides`."""
    return -(-size // count()) * count()


def by_rows(function: Callable, mesh: Mesh | None) -> Callable:
    """`function(rows, *others) -> rows`, where each device computes its own rows.

    Only for what XLA does not split by itself.

    Args:
      function: its first argument, an array or several, and its result lie by rows, the
        others whole. It must not depend on how many rows there are.
      mesh: `mesh()`, an argument so that jitted callers depend on it; None returns the
        function itself.
    """
    if mesh is None:
        return function
    split, every = PartitionSpec(_AXIS), PartitionSpec()

    def on_each(rows: Any, *others: Any) -> Any:
        specs = (split, *[every] * len(others))
        # check_vma would demand casts from the function, which must know no mesh.
        placed = jax.shard_map(
            function, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False
        )
        return placed(rows, *others)

    return on_each


def on_mesh(function: Callable) -> Callable:
    """`function`, traced with the mesh in sight, so that it may say how its arrays lie.

    MoCo's shuffle "spread" does. With one device it returns the function itself.
    """
    if _mesh is None:
        return function
    abstract = _mesh.abstract_mesh

    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(abstract):
            return function(*args)

    return traced


def put(tree: Any, shardings: Any) -> Any:
    """The arrays of a tree, NumPy or jax, on the devices.

    With several processes each of them has every array, and puts its part of it.

    Args:
      shardings: one sharding, or a tree of them; None: the default device.
    """
    if processes.count() == 1 or shardings is None:
        return jax.device_put(tree, shardings)
    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda x: _put(x, shardings), tree)
    return jax.tree.map(_put, tree, shardings)


def _put(array: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        if array.sharding.is_equivalent_to(sharding, array.ndim):
            return array
        return jax.jit(lambda x: x, out_shardings=sharding)(array)
    # jax.device_put would gather the array from all processes, to compare it.
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


def my_rows(size: int) -> slice | None:
    """The rows of a batch of `size` that lie on this process's devices.

    None: all do, because there is one process, or because the devices do not divide the
    batch, so that it lies whole on each.
    """
    sharding = rows()
    if processes.count() == 1 or sharding is None or not divides(size):
        return None
    parts = sharding.addressable_devices_indices_map((size,)).values()
    bounds = [part[0].indices(size) for part in parts if part]
    return slice(min(x[0] for x in bounds), max(x[1] for x in bounds))


def join(part: dict[str, np.ndarray], size: int) -> dict[str, jax.Array]:
    """The batch of `size` rows to which each process gives those of `my_rows`."""
    sharding = rows()
    assert sharding is not None
    return {
        name: jax.make_array_from_process_local_data(
            sharding, array, (size, *array.shape[1:])
        )
        for name, array in part.items()
    }


def fetch(tree: Any) -> Any:
    """A tree with its jax arrays as NumPy arrays.

    The host joins the parts of an array that is spread, so that no device has to hold
    all of it. With several processes all must call it; see `joined`.
    """
    return jax.device_get(joined(tree))


def joined(tree: Any) -> Any:
    """A tree whose arrays this process can read alone.

    An array of which other processes have parts becomes a NumPy array. The devices join
    one at a time, and all processes must call this.
    """

    def join(array: Any) -> Any:
        here = not isinstance(array, jax.Array) or array.is_fully_addressable
        if here or array.is_fully_replicated:
            return array
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))

    return jax.tree.map(join, tree)


def laid_out(abstract: Any, shardings: Any) -> Any:
    """A tree of shapes and dtypes whose leaves also say where they belong.

    Args:
      shardings: one sharding, or a tree of them; None: nowhere in particular.
    """
    if shardings is None or isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, abstract)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        abstract,
        shardings,
    )


def place(batch: Any, *, axis: int = 0) -> Any:
    """A batch with the same number of images on every device.

    With one device it returns the batch as it is.

    Args:
      batch: arrays, in dicts that may be nested. "dataset" and "teacher" stay where
        they are. An array whose rows the devices do not divide goes whole to each.
      axis: the axis of the images.
    """
    if _mesh is None:
        return batch
    if isinstance(batch, jax.Array) and processes.count() > 1:
        return batch  # `join` has placed it
    if isinstance(batch, dict):
        return {
            name: part if name in _SHARED else place(part, axis=axis)
            for name, part in batch.items()
        }
    return put(batch, rows(axis) if divides(batch.shape[axis]) else whole())
