"""An encoder in one file: its weights and, as metadata, what is needed to use them.

    encoder.stage1_block1.conv1.kernel    [3, 3, 64, 64], as flax has it: H, W, in, out
    encoder.stage1_block1.bn1.mean        BatchNorm's statistics are mean and var
    projector.dense_1.kernel

Each entry of the metadata is JSON: the network, the size and channels of its images,
the preprocessing, class names, method, step (see `experiment.saved`), and a digest of
the weights, because the format itself has none.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from simclr_jax.errors import one_line
from simclr_jax.files import replacing

_FORMAT, _VERSION = "simclr_jax", 1
# Their leaves are BatchNorm's statistics; all others are parameters.
_STATISTICS = ("mean", "var")


def save(path: str | os.PathLike, about: dict[str, Any], variables: Any) -> None:
    """Writes the file; a reader sees the old one or the new one, never a part.

    Args:
      path: of the file.
      about: describes the network; JSON must be able to hold it.
      variables: flax's `{"params", "batch_stats"}`.

    Raises:
      OSError: it can't be written; one line names the file and the cause.
    """
    named: dict[str, np.ndarray] = {}
    for collection in ("params", "batch_stats"):
        flat = flatten_dict(variables.get(collection, {}), sep=".")
        for name, leaf in flat.items():
            statistic = name.rpartition(".")[2] in _STATISTICS
            assert statistic == (collection == "batch_stats"), name
            named[name] = np.ascontiguousarray(leaf)
    sealed = {"sha256": _digest(named), "format_version": _VERSION}
    write(path, named, about | sealed, _FORMAT)


def write(
    path: str | os.PathLike, named: dict[str, np.ndarray], about: dict, form: str
) -> None:
    """Writes contiguous arrays under their names, as `save` does.

    Args:
      path: of the file.
      named: the arrays.
      about: the metadata; each value becomes JSON.
      form: the metadata's entry "format", "pt" for PyTorch.

    Raises:
      OSError: as `save`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    metadata = {name: json.dumps(value) for name, value in about.items()}
    with replacing(path) as file:
        try:  # by its name: the bytes of all arrays would take their memory again
            save_file(named, file.name, metadata | {"format": form})
        except SafetensorError as error:
            raise OSError(" ".join(str(error).split())) from error
        # The library has put a file of its own there, which its owner alone may read.
        with open(file.name, "rb") as written:
            os.fchmod(written.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            os.fsync(written.fileno())


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file that `save` wrote: `(about, variables)`, the arrays in NumPy.

    Raises:
      ValueError: it is damaged, or nothing that `save` wrote.
    """
    with _opened(path) as (file, about):
        named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if about.pop("sha256") != _digest(named):
        raise ValueError(f"{path} is damaged: its weights are not what was written")
    params, statistics = {}, {}
    for name, array in named.items():
        parts = tuple(name.split("."))
        (statistics if parts[-1] in _STATISTICS else params)[parts] = array
    return about, {
        "params": unflatten_dict(params),
        "batch_stats": unflatten_dict(statistics),
    }


class OursError(ValueError):
    """A file is one of ours, for `read`."""


def read_foreign(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The named arrays of a file that someone else wrote; float16 too.

    Raises:
      OursError: `save` wrote it.
      ValueError: it can't be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("format") == _FORMAT:
                raise OursError(f"{path} is a file of simclr_jax")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:  # TypeError: bfloat16
        reason = one_line(error)
        raise ValueError(
            f"{path} is not a readable safetensors file: {reason}"
        ) from error


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """The `about` of a file, without its weights.

    Raises:
      ValueError: as `read`.
    """
    with _opened(path) as (_, about):
        del about["sha256"]
        return about


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[Any, dict[str, Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            if metadata.pop("format", "") != _FORMAT:
                raise ValueError(
                    f"{path} was not written by simclr_jax: its metadata do not "
                    "describe the network"
                )
            about = {name: json.loads(value) for name, value in metadata.items()}
            if about.pop("format_version") != _VERSION:
                raise ValueError(f"{path} is from a newer version of simclr_jax")
            yield file, about
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file: {one_line(error)}"
        ) from error


def _digest(named: dict[str, np.ndarray]) -> str:
    """SHA-256 of the names, shapes, types and bytes of all arrays."""
    digest = hashlib.sha256()
    for name in sorted(named):
        array = np.ascontiguousarray(named[name])
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
