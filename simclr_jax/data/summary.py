"""Says in a few lines what was found in a folder of images."""

from collections import Counter
from collections.abc import Iterator, Mapping

from simclr_jax.data.damage import MOST_DEEP, Check, named
from simclr_jax.data.scan import Scan, Split

_MOST_CLASSES = 10  # named one by one


def lines(
    path: str, splits: Mapping[str, Split], found: Scan, checked: Check
) -> Iterator[str]:
    """What to know about a folder before training on it.

    Args:
      path: the folder.
      splits: its splits, without damaged files and under one name each.
      found: from `scan`.
      checked: from `damage.check`.
    """
    counts = {name: len(split.files) for name, split in splits.items()}
    every = sum(counts.values())
    text = f"{path}: {every:,} images"
    if len(counts) > 1:
        text += f" ({', '.join(f'{name} {n:,}' for name, n in counts.items())})"
    if "test" in found.aliases:
        text += f", test is {found.aliases['test']}"
    yield f"{text}, {_classes(splits)}, {_sizes(checked)}"
    yield from (f"  {note}" for note in found.notes)
    if every + len(checked.damaged) > checked.looked_at:
        yield f"  looked into the first {checked.looked_at:,} files only"
    if checked.deep:
        yield (
            f"  {checked.deep:,} grey files of more than 8 bits: white is "
            f"{2**checked.bits - 1:,}, because {min(checked.deep, MOST_DEEP):,} of "
            f"them have values of up to {checked.bits} bits"
        )
    if found.left_out:
        yield f"  left out: {found.left_out_text()}"
    if checked.damaged:
        yield f"  skipped as damaged: {named(checked.damaged)}"


def _classes(splits: Mapping[str, Split]) -> str:
    """The classes of all splits, with how many images each has."""
    counts = Counter(
        label for x in splits.values() for label in x.classes if label is not None
    )
    if not counts:
        return "no classes"
    if len(counts) > _MOST_CLASSES:
        least, most = min(counts.values()), max(counts.values())
        return f"{len(counts):,} classes of {least:,} to {most:,} images"
    listed = ", ".join(f"{name} {counts[name]:,}" for name in sorted(counts))
    return f"{len(counts)} classes ({listed})"


def _sizes(checked: Check) -> str:
    least, most = (f"{w} x {h}" for w, h in (checked.smallest, checked.largest))
    return f"{least} pixels" if least == most else f"{least} to {most} pixels"
