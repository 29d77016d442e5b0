"""Fits what the command line leaves open to the data set.

A recipe's batch sizes suit its own data set. On fewer images a size that nobody has
asked for is halved until a batch is there; one that somebody has asked for is refused
(`preflight`). Where there is no test split, a part of the training split is one. The
workdir's config.json keeps the recipe as it was asked for, and results.json says what
ran. Sweeps change nothing: they hold such fields fixed. Only the operations that need
RGB are off wherever the images have other channels.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any

from simclr_jax import data
from simclr_jax.config.fields import Config, flatten
from simclr_jax.config.stages import trained
from simclr_jax.config.validate import validate

_NEED_RGB = ("saturation", "hue", "grayscale")
_FEWEST = {"batch_size": 2}  # a contrastive loss needs a negative


def batches(
    config: Config, counts: Mapping[str, int]
) -> Iterator[tuple[str, int, str]]:
    """The batch sizes that a run uses: the field, how many images there are, of what.

    Args:
      counts: see `preflight.check_batches`.
    """
    asked = trained(config)
    for stage, images in counts.items():
        if stage in asked:
            yield of_stage(stage, images)
    if config.probe.second.run and "probe" in config.stages:
        yield of_stage("probe.second", counts["probe"])
    if "distill" not in asked:
        return
    few = counts["finetune"]
    alone = "labelled images that distill's baseline trains on"
    yield of_stage("distill", counts["pretrain"])
    yield "finetune.batch_size", few, alone
    if config.distill.label_weight:
        yield "distill.label_batch_size", few, "labelled images"


def of_stage(stage: str, images: int) -> tuple[str, int, str]:
    """The batch size of one training, as in `batches`."""
    field = "batch_size" if stage == "pretrain" else f"{stage}.batch_size"
    return field, images, f"images that {stage} trains on"


def fit_splits(config: Config, info: data.Info, given: Collection[str]) -> list[str]:
    """Cuts a tenth of the training split off as the test split, where there is none.

    The stored order mixes classes (`data.folder`, `data.arrays`), so the tenth is a
    random one, and always the same.

    Args:
      config: is changed.
      given: the fields that someone asked for; they stay.

    Returns:
      A line for each change.
    """
    fields = config.data
    if {"data.test_split", "data.train_split"} & set(given):
        return []
    whole, there = fields.train_split, info.num_examples
    if fields.test_split != "test" or "test" in there or whole not in there:
        return []
    fields.train_split, fields.test_split = f"{whole}[:90%]", f"{whole}[90%:]"
    return [
        f"no split 'test': training on {fields.train_split}, testing on "
        f"{fields.test_split}, a tenth drawn once for all"
    ]


def fit_colours(config: Config, info: data.Info) -> list[str]:
    """Turns off what needs RGB, if the images have another number of channels.

    Grey images need nothing: they have no colours that could change.

    Args:
      config: is changed.

    Returns:
      A line, if anything was on.
    """
    channels = info.image_shape[-1]
    if channels in (1, 3):
        return []
    changed = []
    for stage in ("", "finetune.", "supervised.", "distill."):
        for section in ("augment.", "augment.second."):
            for name in _NEED_RGB:
                field = f"{stage}{section}{name}"
                if dict(flatten(config)).get(field):
                    _set(config, field, 0.0)
                    changed.append(name)
    names = ", ".join(name for name in _NEED_RGB if name in changed)
    what = f"images of {channels} channels: {names} off, because RGB alone has colours"
    return [what] if changed else []


def fit_batches(
    config: Config, counts: Mapping[str, int], given: Collection[str]
) -> list[str]:
    """Halves the batch sizes that are too large for the images.

    Args:
      config: is changed.
      counts: see `preflight.check_batches`.
      given: the fields that someone asked for; they stay.

    Returns:
      A line for each change.

    Raises:
      RequestError: the method can't have the smaller batch.
    """
    lines = []
    for field, images, what in batches(config, counts):
        size = dict(flatten(config))[field]
        fitted, fewest = size, _FEWEST.get(field, 1)
        while fitted > images and fitted // 2 >= fewest:
            fitted //= 2
        if field in given or fitted in (size, 0) or fitted > images:
            continue
        _set(config, field, fitted)
        lines.append(f"{field} {size} -> {fitted}: there are {images} {what}")
        if field == "batch_size":
            lines += _fit_microbatch(config, given)
    if lines:
        validate(config)
    return lines


def _fit_microbatch(config: Config, given: Collection[str]) -> list[str]:
    size = config.microbatch
    if not size or "microbatch" in given or config.batch_size % size == 0:
        return []
    common = math.gcd(size, config.batch_size)
    config.microbatch = common if 1 < common < config.batch_size else 0
    what = config.microbatch or "the whole batch"
    return [f"microbatch {size} -> {what}: batch_size is {config.batch_size}"]


def _set(config: Config, field: str, value: Any) -> None:
    *sections, leaf = field.split(".")
    reduce(getitem, sections, config)[leaf] = value
