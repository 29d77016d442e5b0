"""Finds the image files of a folder, its splits and classes, and what is left out.

It opens no image.
"""

import functools
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from simclr_jax.data import listed
from simclr_jax.data.image_files import HEIF_SUFFIXES, suffixes
from simclr_jax.errors import DataError, refused

# What systems leave beside photos; compared in lower case. All other names of this kind
# start with a dot.
_SYSTEM = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)
_FOR_TESTS = ("val", "valid", "validation")  # `test`, where there is no folder test
_SPLITS = ("train", "test", *_FOR_TESTS)  # in upper or lower case
_UNLABELLED = ("unlabelled", "unlabeled", "extra")
_LISTS = (".txt", ".csv")
_MOST_KINDS = 8


class Split(NamedTuple):
    """The files of a split and the class folder of each."""

    files: tuple[str, ...]  # below the folder, in stored order
    classes: tuple[str | None, ...]  # of each file, in UTF-8; None: it has none

    def without(self, files: Mapping[str, str]) -> "Split":
        """The split without these files."""
        kept = [k for k, file in enumerate(self.files) if file not in files]
        return Split(
            tuple(self.files[k] for k in kept), tuple(self.classes[k] for k in kept)
        )


class Scan(NamedTuple):
    """What a folder holds."""

    splits: dict[str, Split]
    aliases: dict[str, str]  # another name of a split -> its name
    left_out: dict[str, int]  # a kind of files -> how many of them are no images
    notes: tuple[str, ...] = ()  # what else to say
    root: str = ""  # the folder that the files lie below

    def left_out_text(self) -> str:
        """The most frequent kinds, as "12 .txt, 3 hidden or system files"."""
        kinds = Counter(self.left_out).most_common()
        shown = [f"{count:,} {kind}" for kind, count in kinds[:_MOST_KINDS]]
        others = sum(count for _, count in kinds[_MOST_KINDS:])
        return ", ".join(shown + [f"{others:,} others"] * bool(others))


@functools.cache
def scan(path: str) -> Scan:
    """Looks at all names below a folder or in a list, once in a process.

    Args:
      path: the folder, or a file that lists images; see `listed.files`.

    Raises:
      DataError: no such folder, no image in it, or one that can't be read.
    """
    if not path:
        raise DataError("path", "empty; 'folder' needs the path of a folder")
    if why := refused(path):
        raise DataError("path", f"can't use {path}: {why}")
    root = Path(path)
    left: Counter[str] = Counter()
    if root.is_file() and root.suffix.lower() in _LISTS:
        loose, folders = _grouped(listed.files(path), left)
        root = root.parent
    elif root.is_dir():
        loose, folders = _top(root, left)
    else:
        what = f"is not a folder and no list ({' or '.join(_LISTS)})"
        what = what if root.exists() else "does not exist"
        raise DataError("path", f"{path} {what}")
    splits, notes = _splits(loose, folders)
    if not any(split.files for split in splits.values()):
        found = Scan({}, {}, dict(left)).left_out_text()
        besides = f", but {found}" if found else ""
        raise DataError(
            "path",
            f"no image file in {path}{besides}; image files end in "
            f"{', '.join(suffixes())}",
        )
    named: dict[str, Split] = {}
    aliases: dict[str, str] = {}
    for folder, split in splits.items():
        name = folder.lower() if folder.lower() in _SPLITS else folder
        if name in named:
            raise DataError(
                "path", f"{path} has several folders called {name}; rename all but one"
            )
        if split.files:
            named[name] = split
            aliases |= {folder: name} if folder != name else {}
    tests = [name for name in _FOR_TESTS if name in named]
    if "train" in named and "test" not in named and tests:
        aliases["test"] = tests[0]
    return Scan(named, aliases, dict(left), tuple(notes), str(root))


def class_names(path: str, splits: Mapping[str, Split]) -> tuple[str, ...]:
    """The class folders of `train`, sorted; if it has none, those of all splits.

    Raises:
      DataError: another split has a class that `train` lacks.
    """
    classes = {
        name: {label for label in split.classes if label is not None}
        for name, split in splits.items()
    }
    classes_of_train = classes.get("train") or set().union(*classes.values())
    for name, labels in classes.items():
        unknown = labels - classes_of_train
        if unknown:
            raise DataError(
                "path",
                f"{path}/{name} has the class folder {min(unknown)!r}, which "
                f"{path}/train lacks",
            )
    return tuple(sorted(classes_of_train))


def _top(root: Path, left: Counter[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The images in the folder itself, and those below each folder in it."""
    loose, folders = [], []
    try:
        with os.scandir(root) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _skipped(entry.name, left):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif _is_image(entry.name, left):
                    loose.append(entry.name)
    except OSError as error:
        _unreadable(error)
    # Splits may share files by links. Otherwise each file counts once.
    apart = any(name.lower() == "train" for name in folders)
    seen = {os.path.realpath(root)}
    return loose, {
        name: _files(root, name, set(seen) if apart else seen, left) for name in folders
    }


def _grouped(
    files: list[str], left: Counter[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """As `_top`, of the files in a list."""
    images = [os.path.normpath(x).replace(os.sep, "/") for x in files]
    images = [x for x in images if _is_image(x.rpartition("/")[2], left)]
    loose, folders = [], {}
    for image in sorted(images):
        top, slash, _ = image.partition("/")
        below = slash and top not in ("", "..")
        (folders.setdefault(top, []) if below else loose).append(image)
    return loose, folders


def _files(root: Path, top: str, seen: set[str], left: Counter[str]) -> list[str]:
    """All image files below a folder of the root, as paths from the root."""
    images = []
    for place, below, files in os.walk(
        root / top, followlinks=True, onerror=_unreadable
    ):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder seen before, or above
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not _skipped(name, left))
        prefix = os.path.relpath(place, root).replace(os.sep, "/")
        images += [
            f"{prefix}/{name}"
            for name in files
            if not _skipped(name, left) and _is_image(name, left)
        ]
    return images


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(
        "path",
        f"cannot read the folder {error.filename}: {error.strerror}; make it readable "
        "or move it away",
    ) from error


def _skipped(name: str, left: Counter[str]) -> bool:
    """Whether a file or folder is hidden or belongs to the system; counts it then."""
    if name.startswith(".") or name.lower() in _SYSTEM:
        left["hidden or of the system"] += 1
        return True
    return False


def _is_image(name: str, left: Counter[str]) -> bool:
    """Whether a file's name ends as an image's does; counts it if not."""
    if name.lower().endswith(suffixes()):
        return True
    suffix = os.path.splitext(name)[1].lower()
    needs = " (they need pillow-heif)" if suffix in HEIF_SUFFIXES else ""
    left[f"{suffix}{needs}" if suffix else "without suffix"] += 1
    return False


def _splits(
    loose: list[str], folders: Mapping[str, list[str]]
) -> tuple[dict[str, Split], list[str]]:
    """The splits by their folders' names, and what to say of the layout."""
    filled = {name: files for name, files in folders.items() if files}
    if _are_splits(filled):
        notes = [f"not used, because beside the splits: {len(loose):,}"] * bool(loose)
        for name, files in filled.items():
            outside = sum(file.count("/") < 2 for file in files)
            if 0 < outside < len(files):
                notes.append(
                    f"no classes in {name}, because outside of their folders: "
                    f"{outside:,} of its images"
                )
        return {name: _split(name, files) for name, files in filled.items()}, notes
    every = _ordered([*loose, *(file for x in filled.values() for file in x)], "")
    plain = all(name.lower() in _SPLITS for name in filled)  # test and val, no train
    if loose or len(filled) < 2 or plain:
        notes = [f"no classes, because in no folder: {len(loose):,} of the images"]
        notes *= bool(loose and filled)
        return {"train": Split(every, (None,) * len(every))}, notes
    classes = tuple(_readable(file.split("/")[0]) for file in every)
    return {"train": Split(every, classes)}, []


def _are_splits(folders: Mapping[str, list[str]]) -> bool:
    """Whether these are splits, and not classes of which one is called train.

    They are if the folder train has folders of its own, or if all are called as splits
    usually are.
    """
    for name, files in folders.items():
        if name.lower() == "train":
            others = {x.lower() for x in folders} - {*_SPLITS, *_UNLABELLED}
            return not others or any(file.count("/") > 1 for file in files)
    return False


def _split(name: str, files: list[str]) -> Split:
    """A split; one file outside its class folders means no classes."""
    ordered = _ordered(files, f"{name}/")
    parts = [file.split("/") for file in ordered]
    if any(len(part) < 3 for part in parts):
        return Split(ordered, (None,) * len(ordered))
    return Split(ordered, tuple(_readable(part[1]) for part in parts))


def _readable(name: str) -> str:
    """A folder's name as UTF-8 can have it: the byte E9 of another encoding is \\xe9.

    Python decodes such a byte to half a character, which no file can hold.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _ordered(files: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Files in stored order, by a hash of their names without the prefix.

    So the first n files mix classes and dates, and more files do not reorder them.
    """

    def place(file: str) -> tuple[int, str]:
        return zlib.crc32(os.fsencode(file.removeprefix(prefix))), file

    return tuple(sorted(files, key=place))
