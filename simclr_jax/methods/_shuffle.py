"""Orders in which MoCo's keys are encoded, so that they change BatchNorm groups."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import AxisType, PartitionSpec

SHUFFLES = (True, False, "spread")

_AXIS = "data"  # of the mesh, along which a batch is distributed


class Shuffle(NamedTuple):
    """An order of the batch, as functions of an array `[B, ...]`.

    Attributes:
      there: the rows in the new order.
      back: its inverse.
    """

    there: Callable[[jax.Array], jax.Array]
    back: Callable[[jax.Array], jax.Array]


def make(
    shuffle: bool | str, key: jax.Array, batch_size: int, groups: int
) -> Shuffle | None:
    """The order that `moco`'s option asks for; None leaves all as it is.

    Args:
      shuffle: one of SHUFFLES.
      key: for a random order.
      batch_size: images in a batch.
      groups: BatchNorm's groups in the whole batch.
    """
    if shuffle == "spread":
        return dealt(batch_size, groups)
    return permuted(key, batch_size) if shuffle else None


def permuted(key: jax.Array, batch_size: int) -> Shuffle:
    """A random order. A batch that is distributed is gathered on every device."""
    order = jax.random.permutation(key, batch_size)
    back = order.argsort()
    return Shuffle(lambda x: x[order], lambda x: x[back])


def dealt(batch_size: int, groups: int) -> Shuffle:
    """Deals the images out to the groups, as cards to players.

    Image i goes to group i mod `groups`. So each group of keys takes from each group of
    queries the same number of images, or one more. This holds with micro-batches too.

    On several devices it takes one exchange, in which a device sends no more than the
    images that it has, if the call is traced with a mesh in sight that has an axis
    "data" (`jax.set_mesh`, `devices.on_mesh`). Without that, XLA may gather the batch.

    Args:
      batch_size: images in a batch.
      groups: BatchNorm's groups in the whole batch; must divide it.
    """
    size = batch_size // groups
    return Shuffle(
        lambda x: _transposed(x, size, groups), lambda x: _transposed(x, groups, size)
    )


def _transposed(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """The first axis, as a matrix of so many rows and columns, read by columns."""
    x = x.reshape(rows, columns, *x.shape[1:]).swapaxes(0, 1)
    return _distributed(x.reshape(-1, *x.shape[2:]))


def _distributed(x: jax.Array) -> jax.Array:
    """Tells XLA that the rows stay distributed, if there is a mesh and it fits."""
    mesh = jax.sharding.get_abstract_mesh()
    automatic = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if automatic.get(_AXIS) != AxisType.Auto or len(x) % mesh.shape[_AXIS]:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(_AXIS))
