"""Saves checkpoints in a thread, while the training goes on."""

import contextlib
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax import devices, processes
from simclr_jax.checkpoint import store
from simclr_jax.errors import StoppedError


class BackgroundSaver:
    """Saves the steps of one training, one at a time, without holding it up.

    Of several processes, process 0 writes. All must call `save` and `wait`.

    `save` copies the arrays on their device and returns. A thread then fetches the
    copies and does what `checkpoint.save` does, with the same promises.

    The copy is why the next step may donate the arrays: the device makes the copy
    first, and nothing reads the originals after `save`. To wait for a copy in host
    memory instead would leave the device without work. Until the thread has fetched the
    copies, the device holds the state twice.

    The error of a save is raised once: by the next `check`, `save` or `wait`, or at the
    end of the `with` block.

        with BackgroundSaver(directory) as saver:
            for step in range(1, last + 1):
                saver.check()
                state = train(state)
                if step % 100 == 0:
                    saver.save(step, {"params": state.params}, meta)

    The block ends, in whichever way, after the last save has. An error on its way out
    of the block hides the error of a save, except StoppedError, which promises that the
    state is saved.

    Args:
      directory: the folder of the steps, as in `checkpoint.save`.
      keep: how many steps to keep, at least 1.
      check: `(items)`, called in the thread with the arrays in NumPy before they are
        written; what it raises is the error of the save.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        keep: int = 2,
        check: Callable[[dict[str, Any]], None] = lambda items: None,
    ):
        self._directory, self._keep, self._check = directory, keep, check
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, step: Any, items: dict[str, Any], meta: dict[str, Any]) -> None:
        """Starts to save one step, after the save before it has ended.

        Args:
          step: its number. A jax scalar does not make the caller wait for the device.
          items, meta: as in `checkpoint.save`.

        Raises:
          OSError, TypeError, ValueError, or what `check` raises: the save before this
            one failed.
        """
        self.wait()
        # Joined here: the processes must do so in the same order as they take steps.
        copies = _copies(devices.joined((step, items)))
        if not processes.first():
            return
        handed_over = [copies]  # a list, for the thread to empty
        del copies
        self._thread = threading.Thread(
            target=self._write, args=(handed_over, meta), name="checkpoint"
        )
        self._thread.start()

    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._thread is not None and self._thread.is_alive()

    def check(self) -> None:
        """Raises the error of a save that has failed; waits for nothing."""
        if not self.busy():
            self.finish()

    def wait(self) -> None:
        """Waits for the save under way, if there is one; raises its error.

        All processes wait, and raise it.
        """
        processes.agree(self.finish)

    def finish(self) -> None:
        """`wait`, on this process alone."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, StoppedError):
            self.wait()
            return
        with contextlib.suppress(Exception):  # the others may not be here
            self.finish()

    def _write(self, handed_over: list, meta: dict[str, Any]) -> None:
        try:
            # Emptied, so that the copies leave the device before the slow part.
            step, items = jax.device_get(handed_over.pop())
            self._check(items)
            store.save(self._directory, int(step), items, meta, keep=self._keep)
        except BaseException as error:
            self._error = error


def _copies(tree: Any) -> Any:
    """The tree with every array copied; it does not wait for the device."""
    leaves, form = jax.tree.flatten(tree)
    arrays = iter(_copy([x for x in leaves if isinstance(x, jax.Array)]))
    return form.unflatten(
        next(arrays) if isinstance(x, jax.Array) else np.array(x) for x in leaves
    )


@jax.jit
def _copy(arrays: list[jax.Array]) -> list[jax.Array]:
    return [jnp.copy(x) for x in arrays]
