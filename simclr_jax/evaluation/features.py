"""Computes the features of a data set, batch by batch, and standardises them."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def extract(
    embed: Callable[[dict[str, Any]], dict[str, jax.Array]],
    batches: Iterable[dict[str, Any]],
    levels: Iterable[str] | None = None,
    *,
    device_bytes: int = 0,
) -> dict[str, Any]:
    """Embeds a data set, in order and without the padding of its batches.

    Args:
      embed: batch -> {level: [B, D]}; jitted by the caller.
      batches: dicts with "mask" (bool [B], false for padding) and what `embed` needs.
      levels: the levels to return; None returns all.
      device_bytes: features up to this size stay on the device, as jax arrays; for a
        moment they take twice as much. Larger ones come to the host, batch by batch.

    Returns:
      {level: float32 [N, D]}, in NumPy unless they stayed on the device.

    Raises:
      ValueError: there are no batches.

    Example:
      >>> batch = {"image": np.ones([2, 3]), "mask": np.array([True, False])}
      >>> extract(lambda batch: {"h": 2 * batch["image"]}, [batch])
      {'h': array([[2., 2., 2.]], dtype=float32)}
    """
    levels = None if levels is None else tuple(levels)
    parts: list[dict[str, Any]] = []
    in_flight: deque = deque()
    on_device, size = device_bytes > 0, 0

    def collect() -> None:
        nonlocal on_device, size
        outputs, mask = in_flight.popleft()
        parts.append((_device_rows if on_device else _host_rows)(outputs, mask))
        size += sum(x.nbytes for x in parts[-1].values())
        if on_device and size > device_bytes:
            parts[:] = jax.device_get(parts)
            on_device = False

    for batch in batches:
        mask, outputs = np.asarray(batch["mask"]), embed(batch)
        if levels is not None:
            outputs = {name: outputs[name] for name in levels}
        if not on_device:
            jax.copy_to_host_async(outputs)
        in_flight.append((outputs, mask))
        # The device computes one batch while we wait for the one before.
        if len(in_flight) > 1:
            collect()
    while in_flight:
        collect()
    if not parts:
        raise ValueError("there are no batches to embed")
    join: Any = jnp.concatenate if on_device else np.concatenate
    return {name: join([part[name] for part in parts]) for name in parts[0]}


def _host_rows(outputs: dict[str, jax.Array], mask: np.ndarray) -> dict[str, Any]:
    return {name: np.asarray(x, np.float32)[mask] for name, x in outputs.items()}


def _device_rows(outputs: dict[str, jax.Array], mask: np.ndarray) -> dict[str, Any]:
    rows = jax.block_until_ready(
        {name: x.astype(jnp.float32) for name, x in outputs.items()}
    )
    if mask.all():
        return rows
    kept = np.flatnonzero(mask)
    return {name: x[kept] for name, x in rows.items()}


def standardize(
    train: Array, test: Array, *, donate: bool = False
) -> tuple[Array, Array]:
    """Shifts and scales each feature to mean 0 and standard deviation 1 on `train`.

    Args:
      train: [N, D]; its means and deviations are used for both.
      test: [M, D].
      donate: the results take the memory of jax arrays; don't use these again.

    Returns:
      (train, test), float32: NumPy for NumPy, jax (on the device) for jax. A feature
      that is constant on `train` becomes 0 there.
    """
    if isinstance(train, jax.Array):
        # Only the sums are float64, as below. Without it, jax sums in float32.
        with jax.enable_x64(True):
            return (_donating if donate else _standardized)(train, jnp.asarray(test))
    # Only the sums are float64, because the arrays may fill most of the memory.
    mean = train.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    centred, test = train - mean, np.asarray(test) - mean
    variance = np.einsum("nd,nd->d", centred, centred, dtype=np.float64) / len(train)
    scale = (np.sqrt(variance) + 1e-6).astype(np.float32)[None]
    centred /= scale
    test /= scale
    return centred, test


def _standardize(train: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = jnp.mean(train, 0, dtype=jnp.float64, keepdims=True).astype(jnp.float32)
    centred = train - mean
    squares = jnp.square(centred.astype(jnp.float64))
    scale = jnp.sqrt(squares.mean(0, keepdims=True)) + 1e-6
    scale = scale.astype(jnp.float32)
    return centred / scale, (test - mean) / scale


_standardized = jax.jit(_standardize)
_donating = jax.jit(_standardize, donate_argnums=(0, 1))
