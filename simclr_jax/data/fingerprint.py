"""Whether a data set is still the one that a run began with.

A fingerprint says how many images a split has, and with a digest what they are, from
what can be had without decoding: names, sizes, labels, checksums of archives. It does
not depend on where the data set lies.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

Fingerprints = dict[str, dict[str, Any]]  # split -> {"images": N, "digest": "..."}


def fingerprint(images: int, facts: Iterable[Any]) -> dict[str, Any]:
    """Of one split.

    Args:
      facts: what JSON can hold, in stored order.
    """
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(json.dumps(fact).encode() + b"\n")
    return {"images": images, "digest": digest.hexdigest()[:16]}


def of_files(folder: str, files: Iterable[str], classes: Iterable[Any]) -> list[Any]:
    """The facts of image files: name, size and class of each."""
    return [
        (file, os.stat(os.path.join(folder, file)).st_size, name)
        for file, name in zip(files, classes, strict=True)
    ]


def changed(before: Fingerprints, now: Fingerprints) -> str:
    """What differs, in a few words; "" if nothing does.

    A split that only one of them has is not compared.
    """
    for split in before.keys() & now.keys():
        was, there = before[split], now[split]
        if was["images"] != there["images"]:
            return f"{split} had {was['images']:,} images, now {there['images']:,}"
        if was["digest"] != there["digest"]:
            return (
                f"{split} still has {was['images']:,} images, but other names, sizes, "
                "labels or pixels"
            )
    return ""
