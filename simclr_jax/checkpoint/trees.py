"""Pytrees as named host arrays, the form in which store.py stores them.

Only the leaves of a tree are stored, by name. Its structure (NamedTuples, optax states,
...) is code; restoring takes it from a tree of the same form.
"""

import hashlib
from typing import Any

import jax
import numpy as np

from simclr_jax import devices
from simclr_jax.errors import RequestError


def named_leaves(tree: Any) -> dict[str, Any]:
    """name -> leaf; the second leaf of {"a": (x, y)} is "a/1", a bare leaf is ""."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {}
    for path, leaf in flat:
        parts = [jax.tree_util.keystr((key,), simple=True) for key in path]
        if any("/" in part or not part for part in parts):
            raise ValueError(f"a key is empty or contains a slash: {parts}")
        named["/".join(parts)] = leaf
    # Orbax joins names with dots, and two leaves must not share a file.
    if len({name.replace("/", ".") for name in named}) < len(flat):
        raise ValueError(f"two leaves would have the same name: {sorted(named)}")
    return named


def nest(named: dict[str, Any]) -> Any:
    """The inverse of `named_leaves`, with a dict for every kind of node."""
    if "" in named:
        return named[""]
    nested: dict[str, Any] = {}
    for name, leaf in named.items():
        *parents, last = name.split("/")
        node = nested
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = leaf
    return nested


def fetch(item: str, tree: Any) -> dict[str, np.ndarray]:
    """The leaves of an item in host memory, fetched together."""
    named = named_leaves(tree)
    for name, leaf in named.items():
        dtype = _dtype(leaf)
        if not isinstance(dtype, np.dtype) or dtype.kind in "OSUMm" or dtype.names:
            raise TypeError(f"{item}/{name} is not an array of numbers: {dtype}")
    arrays = {name: np.asarray(leaf) for name, leaf in devices.fetch(named).items()}
    return {  # in the byte order that Orbax will return
        name: array.astype(array.dtype.newbyteorder("="), copy=False)
        for name, array in arrays.items()
    }


def describe(named: dict[str, np.ndarray]) -> dict[str, list]:
    """name -> [shape, dtype, digest]."""
    described = {}
    for name, array in named.items():
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        digest = hashlib.sha256(content).hexdigest()
        described[name] = [list(array.shape), array.dtype.name, digest]
    return described


def place(named: dict[str, np.ndarray], like: Any) -> Any:
    """Puts stored leaves into the structure and onto the devices of `like`."""
    if like is None:
        return nest(named)

    def put(array: np.ndarray, leaf: Any) -> Any:
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            return array  # jax would round it to 32 bits
        # A leaf that was uncommitted must stay so: committed to one device, it could
        # not be used together with a batch sharded over more devices.
        free = not getattr(leaf, "committed", True)
        sharding = None if free else getattr(leaf, "sharding", None)
        return devices.put(array, sharding)

    leaves = [put(named[name], leaf) for name, leaf in named_leaves(like).items()]
    return jax.tree.structure(like).unflatten(leaves)


def check(record: dict[str, Any], like: dict[str, Any], where: str) -> None:
    """Raises RequestError unless the record has the items of `like` in its form."""
    for item, tree in like.items():
        if item not in record["leaves"]:
            raise RequestError(
                f"{where} has no {item!r}, only {list(record['leaves'])}"
            )
        if tree is None:
            continue
        saved = {
            name: f"{dtype} {shape}"
            for name, (shape, dtype, _) in record["leaves"][item].items()
        }
        wanted = {
            name: f"{_dtype(leaf).name} {list(np.shape(leaf))}"
            for name, leaf in named_leaves(tree).items()
        }
        for name in saved | wanted:
            if (was := saved.get(name)) != (now := wanted.get(name)):
                raise RequestError(
                    f"{where}: {f'{item}/{name}'.rstrip('/')} is {was or 'not there'}, "
                    f"but this run's is {now or 'not there'}"
                )


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
