"""Gives the images of a folder the labels of a table; see `listed`."""

from simclr_jax.data import listed
from simclr_jax.data.scan import Scan
from simclr_jax.errors import DataError


def labelled(found: Scan, path: str, argument: str) -> Scan:
    """What was found in a folder, with a table's labels in place of class folders.

    Classes are sorted by name. An image that no row names has no label.

    Args:
      path: of the table; it names files as paths from the folder.
      argument: the one that named the table, for messages.

    Raises:
      DataError: the table can't be read, or names none of the images.
    """
    labels = dict(listed.rows(path, argument))
    there = {file for split in found.splits.values() for file in split.files}
    absent = [file for file in labels if file not in there]
    used = {file: label for file, label in labels.items() if label and file in there}
    if not used:
        raise DataError(
            argument,
            f"{path} gives none of the {len(there):,} images a label: it names "
            f"{listed.named(labels)}, and {found.root} has "
            f"{listed.named(sorted(there))}",
        )
    splits = {
        name: split._replace(classes=tuple(used.get(file) for file in split.files))
        for name, split in found.splits.items()
    }
    note = f"{path}: labels of {len(used):,} of the {len(there):,} images"
    if absent:
        rows = "rows name" if len(absent) > 1 else "row names"
        note += f"; {len(absent):,} {rows} no image here: {listed.named(absent)}"
    of_folders = [x for x in found.notes if x.startswith("no classes")]
    notes = [x for x in found.notes if x not in of_folders]
    return found._replace(splits=splits, notes=(*notes, note))
