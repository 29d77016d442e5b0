"""`simclr_jax.pretrain`: what the command does, for notebooks and scripts."""

import copy
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclr_jax import signals, startup
from simclr_jax.errors import RequestError
from simclr_jax.launch import main

if TYPE_CHECKING:
    from ml_collections import ConfigDict

__all__ = ["pretrain"]


def pretrain(
    recipe: "str | os.PathLike | ConfigDict",
    workdir: str | os.PathLike,
    /,
    **changes: Any,
) -> Path:
    """Pretrains an encoder and runs the recipe's other stages, as the command does.

        run = simclr_jax.pretrain("folder", "runs/photos", **{"data.path": "PHOTOS"})
        encoder = simclr_jax.load(run)

    A second call with the same arguments continues a run that was interrupted; if all
    is done it says so. Progress goes to stderr, the table of results to stdout. Before
    jax has used a device, it makes the settings of `simclr_jax.set_cpu_flags`.

    Ctrl-C and SIGTERM save the state; then the program's own handler of the signal gets
    it. So Ctrl-C raises KeyboardInterrupt, and a second one does so at once, without
    saving. In a thread that is not the main one, Python hands over no signals.

    Args:
      recipe: the name of a shipped recipe, "cifar10" or "cifar10:resnet18"; a recipe's
        file; or a ConfigDict that started as `simclr_jax.config.defaults.get_config()`.
        It is not changed.
      workdir: the folder for checkpoints and results; it is made.
      **changes: fields to change, by their dotted names: `epochs=5`,
        `**{"optimizer.lr": 3e-4}`. The recipe's value is the default.

    Returns:
      The workdir.

    Raises:
      ValueError: the request is wrong; the message names the field. Nothing is written.
      ImportError: a package that training needs is not installed.
      simclr_jax.errors.DivergedError: the loss is no longer finite; the last good
        checkpoint is kept.
      OSError: the disk is full, or a file can't be read or written.
      KeyboardInterrupt: a signal came; the state is saved.
    """
    if problem := startup.missing_package():
        raise ImportError(problem)
    startup.set_cpu_flags()
    if "jax" not in sys.modules:  # else they are the program's own
        startup.set_compilation_cache()
    path = Path(workdir).expanduser()
    try:
        config, given = _config(recipe, changes)
        with signals.asked_by_signals():
            main.train(config, str(path), given=given)
    except RequestError as error:
        raise ValueError(str(error).removeprefix("--config: ")) from error
    return path


def _config(
    recipe: "str | os.PathLike | ConfigDict", changes: dict[str, Any]
) -> tuple[Any, Collection[str] | None]:
    """The config, and the fields that were asked for; see `stages.run`."""
    from simclr_jax.config import changes as changing
    from simclr_jax.config import recipes

    texts = [(name, _text(value)) for name, value in changes.items()]
    if not isinstance(recipe, str | os.PathLike):  # taken as it is
        config = copy.deepcopy(recipe).lock()
        changing.change(config, texts)
        return config, None
    config = recipes.load(os.fspath(recipe))
    for note in changing.fit(config, texts):
        print(note, file=sys.stderr)
    return config, changes.keys()


def _text(value: Any) -> str:
    """A field's value as the command line takes it."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, list):
        value = tuple(value)
    if hasattr(value, "item"):  # a number of NumPy's
        value = value.item()
    return repr(value)
