"""Stage `embed`: writes the features of the data set's images. It adds no result."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simclr_jax import checkpoint, pretrained, processes
from simclr_jax.data import given
from simclr_jax.data.fingerprint import fingerprint
from simclr_jax.data.reader import Reader, stored_shape
from simclr_jax.errors import RequestError
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.images import open_dataset
from simclr_jax.experiment.preflight import naming_fields
from simclr_jax.experiment.workdir import pretraining_folder
from simclr_jax.export import embeddings
from simclr_jax.pretrained import Encoder
from simclr_jax.signals import check_stop

_DOING = "embedding"


def file(experiment: Experiment) -> Path:
    """The file that the stage writes."""
    form = experiment.config.embed.format
    return experiment.workdir.path / f"embeddings.{form}"


def embed(experiment: Experiment) -> bool:
    """Writes embeddings.npz, unless it has these features already.

    `h [N, D]`, `file`, `label` (-1: none) and `split`: "train" and "test", or "" for
    the images of `config.embed.images`. The network, the size and the preprocessing are
    those of the pretraining, and not the recipe's.

    Returns:
      Whether this process wrote the file.
    """
    return bool(_write(experiment))


@processes.first_only
def _write(experiment: Experiment) -> bool:
    config, path = experiment.config, file(experiment)
    folder = pretraining_folder(config, experiment.workdir.path)
    others = _others(experiment)
    seen = experiment.fingerprints(test=True) if others is None else _print(others)
    about: dict[str, Any] = {
        "images": config.embed.images or config.data.name,
        "level": config.embed.level,
        "step": checkpoint.steps(folder)[-1],
        "seen": seen,
    }
    if about.items() <= _about(path).items():
        return False
    encoder = pretrained.load(folder.parent)
    if config.embed.level not in encoder.levels:
        raise RequestError(
            f"config.embed.level: {config.embed.level!r} is not one of "
            f"{', '.join(encoder.levels)}, which the network in {folder} has"
        )
    try:
        if others is None:
            columns, names = _of_splits(experiment, encoder)
        else:
            columns, names = _of_given(experiment, encoder, others)
    except ValueError as error:  # of an image that can't be used
        field = "data.name" if others is None else "embed.images"
        raise RequestError(f"config.{field}: {error}") from error
    if config.embed.format == "npz":
        columns["class_names"] = np.array(names, str)
    about |= {"class_names": list(names), "encoder": encoder.config}
    embeddings.write(path, columns, about)
    return True


def _others(experiment: Experiment) -> given.Given | None:
    """The images of `config.embed.images`; None: those of the data set."""
    fields = experiment.config
    if not fields.embed.images:
        return None
    with naming_fields(path="embed.images"):
        return given.read(fields.embed.images, fields.data.skip_damaged)


def _print(others: given.Given) -> dict[str, Any]:
    if isinstance(others.images, np.ndarray):
        return fingerprint(len(others.files), [zlib.crc32(others.images.tobytes())])
    sizes = [Path(x).stat().st_size for x in others.images]
    facts = zip(others.files, sizes, others.labels.tolist(), strict=True)
    return fingerprint(len(others.files), facts)


def _of_given(
    experiment: Experiment, encoder: Encoder, others: given.Given
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns, and the class names."""
    level, size = experiment.config.embed.level, experiment.config.eval_batch_size
    h = embeddings.in_pieces(
        lambda images: encoder.embed(images, level, size),
        others.images,
        size,
        embeddings.Progress(_DOING, len(others.files)),
    )
    columns = {
        "h": np.concatenate(h),
        "file": np.array(others.files),
        "label": others.labels,
        "split": np.full(len(others.files), "", "U5"),
    }
    return columns, others.class_names


def _of_splits(
    experiment: Experiment, encoder: Encoder
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns of the training and the test split, and the class names."""
    fields, dataset = experiment.config.data, open_dataset(experiment.config)
    splits = {"train": fields.train_split, "test": fields.test_split}
    if fields.test_split == fields.train_split:
        del splits["test"]
    stored = _stored_size(dataset.info, fields.stored_size, encoder)
    readers = {
        role: dataset.reader(split, stored_size=stored)
        for role, split in splits.items()
    }
    parts: dict[str, list[Any]] = {}
    for role, reader in readers.items():
        for name, column in (
            ("h", np.concatenate(list(_features(experiment, encoder, reader)))),
            ("file", np.array(given.names(reader, splits[role], dataset.info))),
            ("label", reader.labels),
            ("split", np.full(reader.num_examples, role)),
        ):
            parts.setdefault(name, []).append(column)
    columns = {name: np.concatenate(found) for name, found in parts.items()}
    return columns, dataset.info.class_names


def _stored_size(info: Any, asked: int, encoder: Encoder) -> int:
    """As `data.stored_size`: what gives the images the shape that training stored."""
    made = encoder.config["preprocessing"]["stored"]
    square = bool(made) and made[0] == made[1]
    if square and list(stored_shape(info, asked or made[0])[:2]) != made:
        return made[0]
    return asked


def _features(
    experiment: Experiment, encoder: Encoder, reader: Reader
) -> Iterator[np.ndarray]:
    level, size = experiment.config.embed.level, experiment.config.eval_batch_size
    size = min(size, reader.num_examples)
    progress = embeddings.Progress(_DOING, reader.num_examples)
    for batch in reader.read(size):
        check_stop()
        images = batch["image"]
        missing = size - len(images)  # one shape, one program
        padded = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), "edge")
        yield encoder.embed(padded, level, size)[: len(images)]
        progress.add(len(images))


def _about(path: Path) -> dict[str, Any]:
    """What an older file says of itself; empty if it has to be written."""
    try:
        return dict(embeddings.read_about(path))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
