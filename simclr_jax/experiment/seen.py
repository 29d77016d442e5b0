"""Which images a run has seen, and whether they are still the same."""

from typing import Any

from simclr_jax import data
from simclr_jax.config.fields import Config
from simclr_jax.data.fingerprint import Fingerprints, changed
from simclr_jax.data.splits import parts
from simclr_jax.errors import RequestError


def fingerprints(
    config: Config, info: data.Info, *, test: bool = False
) -> Fingerprints:
    """Of the splits that a recipe trains on and, with `test`, evaluates on."""
    fields, found = config.data, info.fingerprints or {}
    named = [fields.train_split, fields.pretrain_split or fields.train_split]
    named += [fields.test_split] * test
    splits = {part.split for name in named for part in parts(info, name)}
    return {split: found[split] for split in sorted(splits & found.keys())}


def require_same(before: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Raises RequestError if a training began with other images.

    Args:
      before: what its checkpoint says; older versions say nothing of the images.
      now: what its next checkpoint would say.
      where: names the checkpoint.
    """
    if what := changed(before.get("images", {}), now.get("images", {})):
        raise RequestError(
            f"config.data: the images are not those of {where}: {what}; bring them "
            "back, or use another --workdir"
        )
