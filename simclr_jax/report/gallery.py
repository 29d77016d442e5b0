"""Which images the report shows and where they lie: neighbours, maps and views.

Images are drawn by the run's seed, never by what became of them. What took embedding
or t-SNE is kept in the workdir, so that writing the report again costs neither.
"""

import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax import augment, data
from simclr_jax.config.stages import stream
from simclr_jax.experiment.experiment import Experiment

_QUERIES, _BANK, _MAPPED = 2_000, 10_000, 1_000
_NEIGHBOURS, _PAIRS, _ORIGINALS = 5, 8, 2
_FEWEST_MAPPED = 10  # below, t-SNE has nothing to arrange


class Gallery(NamedTuple):
    """Arrays only; positions are those in the test or the labelled training split."""

    step: np.ndarray  # int []: pretraining step of the encoder
    queries: np.ndarray  # int [Q]: test images, in random order
    bank_size: np.ndarray  # int []: training images that were searched
    neighbours: np.ndarray  # int [Q, K]: training images, nearest first
    similarities: np.ndarray  # float [Q, K]: cosines
    mapped: np.ndarray  # int [M]: test images; M is 0 where there are too few
    pretrained: np.ndarray  # float [M, 2]: where t-SNE puts them, by this encoder
    random_init: np.ndarray  # float [M, 2]: and by the same one untrained


def load(experiment: Experiment) -> Gallery:
    """The gallery of the newest encoder; computed unless the workdir has it."""
    path = experiment.workdir.path / "stages" / "report" / "gallery.npz"
    step = experiment.pretrained[0]
    kept = _read(path)
    if kept is not None and kept.step == step:
        return kept
    gallery = _compute(experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **gallery._asdict())
    return gallery


def _read(path: Path) -> Gallery | None:
    """None where there is no such file, or not a whole one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Gallery(**archive)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _compute(experiment: Experiment) -> Gallery:
    rng = np.random.default_rng((experiment.config.seed, stream("report")))
    train, test = experiment.images.train, experiment.images.test
    step, params, model_state = experiment.pretrained
    queries = rng.permutation(test.num_examples)[:_QUERIES]
    bank = np.sort(rng.permutation(train.num_examples)[:_BANK])

    def embed(source, positions, params, model_state):
        """h [N, F] in the order of `positions`, which a stream can't be read in."""
        increasing, back = np.unique(positions, return_inverse=True)
        some = source.subset(increasing)
        features, _ = experiment.features(params, model_state, some, ("h",))
        return features["h"][back]

    h = embed(test, queries, params, model_state)
    # Where the test images are the training images, none is its own neighbour.
    splits = experiment.config.data
    one_split = splits.test_split == splits.train_split
    same = queries[:, None] == bank if one_split else None
    bank_h = embed(train, bank, params, model_state)
    similarities, found = nearest(h, bank_h, same)
    mapped = queries[:_MAPPED] if len(queries) >= _FEWEST_MAPPED else queries[:0]
    random_h = embed(test, mapped, *experiment.random_init) if len(mapped) else h[:0]
    return Gallery(
        step=np.array(step),
        queries=queries,
        bank_size=np.array(len(bank)),
        neighbours=bank[found],
        similarities=similarities,
        mapped=mapped,
        pretrained=spread(h[: len(mapped)], experiment.config.seed),
        random_init=spread(random_h, experiment.config.seed),
    )


def nearest(
    queries: np.ndarray, bank: np.ndarray, same: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar rows of the bank, nearest first.

    Args:
      queries: [Q, F].
      bank: [N, F].
      same: bool [Q, N], at most one a row: pairs of one image, not to be compared.

    Returns:
      (cosines [Q, K], rows of the bank int [Q, K]); K is 5, or less if there are no
      more to compare with.
    """
    most = min(_NEIGHBOURS, len(bank) - (same is not None))
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, bank)]
    queries, bank = queries / (lengths[0] + 1e-12), bank / (lengths[1] + 1e-12)
    cosines = jnp.matmul(queries, bank.T, precision="highest")
    if same is not None:
        cosines = jnp.where(same, -jnp.inf, cosines)
    similarities, found = jax.lax.top_k(cosines, most)
    return np.asarray(similarities), np.asarray(found)


def spread(features: np.ndarray, seed: int) -> np.ndarray:
    """Places features [N, F] in the plane, [N, 2], by t-SNE on their cosines.

    References:
      van der Maaten and Hinton, Visualizing data using t-SNE, 2008.
    """
    if not len(features):
        return np.zeros([0, 2])
    from sklearn.manifold import TSNE  # here: it takes a second to import

    tsne = TSNE(
        metric="cosine",
        init="pca",
        perplexity=min(30.0, (len(features) - 1) / 3),
        random_state=seed % 2**32,
    )
    return tsne.fit_transform(features)


def images(source: data.Source, positions: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] of a split, in the order of `positions` [N]."""
    increasing, back = np.unique(positions, return_inverse=True)
    parts = [
        np.asarray(data.take(batch)["image"])[batch["mask"]]
        for batch in source.subset(increasing).ordered(min(256, len(increasing)))
    ]
    return np.concatenate(parts)[back]


def views(experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images as they are, and as pretraining sees them.

    Returns:
      For each image (uint8 [H, W, C], its pairs of views uint8 [P, 2, s, s, C]).
    """
    rng = np.random.default_rng((experiment.config.seed, stream("report")))
    source, size = experiment.images.unlabelled, experiment.config.augment.size
    chosen = rng.permutation(source.num_examples)[:_ORIGINALS]
    originals = images(source, chosen)
    repeated = np.repeat(originals, _PAIRS, axis=0)

    @jax.jit
    def draw(key, batch):
        pair = augment.two_views(key, batch, views=experiment.views, size=size)
        return jnp.round(255 * jnp.stack(pair, axis=1)).astype(jnp.uint8)

    pairs = np.asarray(draw(experiment.key("report"), repeated))
    return list(zip(originals, np.split(pairs, len(originals)), strict=True))
