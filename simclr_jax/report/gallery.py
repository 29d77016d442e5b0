"""The report's images as arrays: neighbours, t-SNE maps and augmented views.

The run's seed chooses the images that are shown, whatever their results. The workdir
keeps the neighbours and the maps, so that writing the report again computes neither.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax import augment, data, processes
from simclr_jax.config.stages import stream
from simclr_jax.evaluation import nearest
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.files import replacing

_QUERIES, _BANK, _MAPPED = 2_000, 10_000, 1_000
_NEIGHBOURS, _PAIRS, _ORIGINALS = 5, 8, 2
_ALIKE = 8
_FEWEST_MAPPED = 10  # t-SNE has nothing to arrange with fewer


class Gallery(NamedTuple):
    """Arrays only; positions are those in the test or the labelled training split."""

    step: np.ndarray  # int []: pretraining step of the encoder
    queries: np.ndarray  # int [Q]: test images, in random order
    bank_size: np.ndarray  # int []: training images that were searched
    neighbours: np.ndarray  # int [Q, K]: training images, nearest first
    similarities: np.ndarray  # float [Q, K]: cosines
    mapped: np.ndarray  # int [M]: test images; M is 0 where there are too few
    pretrained: np.ndarray  # float [M, 2]: their t-SNE by this encoder
    random_init: np.ndarray  # float [M, 2]: and by the untrained one
    alike: np.ndarray  # int [M, A]: the nearest mapped images, as rows of `mapped`
    cosines: np.ndarray  # float [M, A]: their cosines
    data: np.ndarray  # str []: fingerprints of the images


def load(experiment: Experiment) -> Gallery:
    """The gallery of the newest encoder; computed unless the workdir has it."""
    path = experiment.workdir.path / "stages" / "report" / "gallery.npz"
    stored = processes.agree(lambda: _read(path))
    step, data = experiment.pretrained[0], _data(experiment)
    if stored is not None and (stored.step, stored.data) == (step, data):
        return stored
    gallery = _compute(experiment)
    _write(path, gallery)
    return gallery


@processes.first_only
def _write(path: Path, gallery: Gallery) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, **gallery._asdict())


def _read(path: Path) -> Gallery | None:
    """None if the file is missing, damaged, or of a version with other arrays."""
    try:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return Gallery(**archive)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _data(experiment: Experiment) -> str:
    return json.dumps(experiment.fingerprints(test=True))


def _compute(experiment: Experiment) -> Gallery:
    config = experiment.config
    rng = np.random.default_rng((config.seed, stream("report")))
    train, test = experiment.images.train, experiment.images.test
    queries = rng.permutation(test.num_examples)[:_QUERIES]
    bank = np.sort(rng.permutation(train.num_examples)[:_BANK])
    h = _embedded(experiment, "pretrained", "test", queries)
    bank_h = _embedded(experiment, "pretrained", "train", bank)
    # If the two splits are one, no image may be its own neighbour.
    one_split = config.data.test_split == config.data.train_split
    same = queries[:, None] == bank if one_split else None
    similarities, rows = nearest(h, bank_h, k=_NEIGHBOURS, same=same)
    mapped = queries[:_MAPPED] if len(queries) >= _FEWEST_MAPPED else queries[:0]
    random_h, mapped_h = h[:0], h[: len(mapped)]
    alike, cosines = np.zeros([0, 0], int), np.zeros([0, 0])
    if len(mapped):
        itself = np.eye(len(mapped), dtype=bool)
        cosines, alike = nearest(mapped_h, mapped_h, k=_ALIKE, same=itself)
        random_h = _embedded(experiment, "random_init", "test", mapped)
    return Gallery(
        step=np.array(experiment.pretrained[0]),
        queries=queries,
        bank_size=np.array(len(bank)),
        neighbours=bank[rows],
        similarities=similarities,
        mapped=mapped,
        pretrained=tsne(mapped_h, config.seed),
        random_init=tsne(random_h, config.seed),
        alike=alike,
        cosines=cosines,
        data=np.array(_data(experiment)),
    )


def _embedded(
    experiment: Experiment, network: str, split: str, positions: np.ndarray
) -> np.ndarray:
    """h [N, F] of a split's images at `positions`; see `Experiment.own_features`."""

    def embed(increasing: np.ndarray) -> np.ndarray:
        features, _ = experiment.own_rows(network, split, increasing, ("h",))
        return features["h"]

    return _in_order(embed, positions)


def _in_order(
    read: Callable[[np.ndarray], np.ndarray], positions: np.ndarray
) -> np.ndarray:
    """`read`'s rows for `positions`, which may be in any order and repeat.

    A streamed source gives each image once, and only by increasing position.
    """
    increasing, rows = np.unique(positions, return_inverse=True)
    return read(increasing)[rows]


@processes.agreed
def tsne(features: np.ndarray, seed: int) -> np.ndarray:
    """Places features [N, F] in the plane, [N, 2], by t-SNE on their cosines.

    Features that don't differ all lie at the origin, and so do features that are not
    finite: scikit-learn's t-SNE would end the process.

    References:
      van der Maaten and Hinton, Visualizing data using t-SNE, 2008.
    """
    if not _differ(features):
        return np.zeros([len(features), 2])
    from sklearn.manifold import TSNE  # here: it takes a second to import

    return TSNE(
        metric="cosine",
        init="pca",
        perplexity=min(30.0, (len(features) - 1) / 3),
        random_state=seed % 2**32,
    ).fit_transform(features)


def _differ(features: np.ndarray) -> bool:
    """Whether the features are finite and vary beyond rounding."""
    if not len(features) or not np.isfinite(features).all():
        return False
    numbers = features.astype(np.float64)
    return bool(numbers.std(0).max() > 1e-6 * np.abs(numbers).max())


def images(source: data.Source, positions: np.ndarray) -> np.ndarray:
    """A split's images at `positions` [N], in that order, as a picture shows them.

    Returns:
      uint8 [N, H, W, C]; see `visible`.
    """
    return visible(_in_order(source.images, positions))


def visible(images: np.ndarray) -> np.ndarray:
    """Images [..., C] as a picture can show them: the first three channels as RGB, or
    the first alone as grey where there are only two."""
    channels = images.shape[-1]
    return images if channels == 1 else images[..., : 3 if channels > 2 else 1]


def views(experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images as they are stored and as pretraining sees them.

    Returns:
      For each image (uint8 [H, W, C], its pairs of views uint8 [P, 2, s, s, C]); see
      `visible`.
    """
    rng = np.random.default_rng((experiment.config.seed, stream("report")))
    source, size = experiment.images.unlabelled, experiment.config.augment.size
    chosen = rng.permutation(source.num_examples)[:_ORIGINALS]
    originals = _in_order(source.images, chosen)
    repeated = np.repeat(originals, _PAIRS, axis=0)

    @jax.jit
    def draw(key, batch):
        pair = augment.two_views(key, batch, views=experiment.views, size=size)
        return jnp.round(255 * jnp.stack(pair, axis=1)).astype(jnp.uint8)

    pairs = visible(np.asarray(draw(experiment.key("report"), repeated)))
    originals = visible(originals)
    return list(zip(originals, np.split(pairs, len(originals)), strict=True))
