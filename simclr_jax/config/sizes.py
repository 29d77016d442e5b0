"""The sizes of views that a request leaves unset: those of the stages with labels.

An unset size is pretraining's. A run that goes on keeps the sizes that it began with:
before there was this rule, each stage had a size of its own.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from simclr_jax.config.fields import Config, flatten
from simclr_jax.config.stages import trained

# The stages whose size may be unset, by its field.
FIELDS = {f"{x}.augment.size": x for x in ("finetune", "supervised", "distill")}


def settle(config: Config, made: Mapping[str, Any]) -> list[str]:
    """Sets the unset sizes in `config`.

    Args:
      made: config.json of the run that goes on; empty if the run is new.

    Returns:
      A line for each stage to train whose size differs from pretraining's because the
      run began so.
    """
    before, lines = dict(flatten(ConfigDict(dict(made)))), []
    for field, stage in FIELDS.items():
        views, usual = config[stage].augment, config.augment.size
        if views.size is not None:
            continue
        size = before.get(field)
        views.size = size if type(size) is int else usual
        if views.size != usual and stage in trained(config):
            lines.append(
                f"{field} is {views.size}, as when this run began; in a new --workdir "
                f"it would be {usual}, as augment.size"
            )
    return lines
