"""Splits by name and parts of them: "train[:90%]", "train[90%:]+test".

The syntax is TFDS's. TFDS reads such splits itself; here they are for all data sets.
"""

import re
from typing import NamedTuple

from simclr_jax.data.reader import Info
from simclr_jax.errors import DataError

_BOUND = r"\s*(-?\d+%?)?\s*"
_PART = re.compile(rf"\s*([^\[\]]*[^\[\]\s])\s*(?:\[{_BOUND}:{_BOUND}\])?\s*")


class Part(NamedTuple):
    """Examples `start` to `stop` of a split, in stored order."""

    split: str
    start: int
    stop: int


def parts(info: Info, split: str) -> list[Part]:
    """What a split's name stands for.

    Args:
      info: says which splits there are, and how large.
      split: NAME or NAME[FROM:TO], or several joined by "+". FROM and TO are numbers of
        images or whole percents of the split, rounded to the nearest image; negative
        ones count from the end; either may be left out.

    Raises:
      DataError: there is no such split, or no image in the part.
    """
    if split in info.num_examples:
        return [Part(split, 0, info.num_examples[split])]
    found = []
    for text in split.split("+"):
        match = _PART.fullmatch(text)
        if match is None or match[1] not in info.num_examples:
            raise no_split(info, split)
        count = info.num_examples[match[1]]
        start, stop = _position(match[2], count, 0), _position(match[3], count, count)
        if not start < stop <= count:
            raise DataError(
                "split",
                f"{text.strip()!r} is no part of the {count:,} images of {info.name} "
                f"{match[1]}",
            )
        found.append(Part(match[1], start, stop))
    return found


def examples(info: Info, split: str) -> int:
    """How many examples a split or a part of one holds.

    Raises:
      DataError: as `parts` does.
    """
    return sum(part.stop - part.start for part in parts(info, split))


def no_split(info: Info, split: str) -> DataError:
    """The error for a split that the data set does not have."""
    splits = ", ".join(info.num_examples)
    cure = f"; {info.layout}" if info.layout else ""
    return DataError(
        "split", f"{info.name} has no split {split!r}; it has {splits}{cure}"
    )


def _position(bound: str | None, count: int, default: int) -> int:
    """The position among `count` examples that a bound of a part means."""
    if not bound:
        return default
    if bound.endswith("%"):
        position = round(int(bound[:-1]) * count / 100)
    else:
        position = int(bound)
    return position if position >= 0 else max(position + count, 0)
