"""Nearest neighbours by cosine similarity."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from simclr_jax import devices
from simclr_jax.evaluation.accuracy import labelled_rows

Array = jax.Array | np.ndarray


def knn(
    queries: Array,
    bank: Array,
    labels: Array,
    *,
    k: int = 200,
    temperature: float = 0.1,
    num_classes: int,
    block_size: int = 1024,
    same: np.ndarray | None = None,
) -> jax.Array:
    """Classifies each query by a vote of the k most similar features of the bank.

    A neighbour of cosine similarity s votes for its class with exp(s / temperature).
    Takes the memory of one [block_size, N] matrix.

    Args:
      queries: features [M, D]; need not be normalised.
      bank: features [N, D].
      labels: of the bank, int [N], in [0, num_classes); rows labelled -1 are left out
        of the bank.
      k: neighbours that vote; the whole bank if it has fewer.
      temperature: greater than 0.
      num_classes: C.
      block_size: queries handled together.
      same: int [M], the row of the bank with the query's own image, which has no vote;
        -1: none. None: all -1.

    Returns:
      int32 [M]: the predicted classes; of equal votes, the lowest class.

    Raises:
      ValueError: shapes don't match, no row has a label, or one is not in [-1, C).

    Example:
      >>> bank, labels = np.eye(3), np.array([0, 1, -1])
      >>> knn(np.array([[1.0, 5.0, 9.0]]), bank, labels, k=1, num_classes=2).tolist()
      [1]

    References:
      Wu et al., Unsupervised feature learning via non-parametric instance
      discrimination, 2018, section 3.4 (with k 200, temperature 0.07).
    """
    matching = queries.ndim == bank.ndim == 2 and queries.shape[1] == bank.shape[1]
    if not matching or labels.shape != bank.shape[:1]:
        found = f"{queries.shape}, {bank.shape}, {labels.shape}"
        raise ValueError(f"need queries [M, D], bank [N, D], labels [N]: {found}")
    labelled = labelled_rows(np.asarray(labels), num_classes)
    if not labelled.all():
        bank, labels = bank[labelled], labels[labelled]
    return _predict(
        jnp.asarray(queries),
        _kept_rows(same, labelled, len(queries)),
        jnp.asarray(bank),
        jnp.asarray(labels),
        temperature,
        block_size,
        k=min(k, len(labels)),
        num_classes=num_classes,
    )


def _kept_rows(same: np.ndarray | None, kept: np.ndarray, queries: int) -> np.ndarray:
    """`same` of `knn` as rows of the bank's `kept` rows, int32 [M]."""
    if same is None:
        return np.full(queries, -1, np.int32)
    if same.shape != (queries,):
        raise ValueError(f"need same [{queries}], one for each query: {same.shape}")
    places = np.where(kept, np.cumsum(kept) - 1, -1)
    return np.where(same < 0, -1, places[same]).astype(np.int32)


def _predict(queries, same, bank, labels, temperature, block_size: int, **options):
    """`_classify` on the devices: each has its share of the queries, and the bank."""
    count, whole = len(queries), devices.whole()
    missing = devices.round_up(count) - count
    padded = jnp.pad(queries, ((0, missing), (0, 0))) if missing else queries
    same = np.pad(same, (0, missing), constant_values=-1)
    classes = _classify(
        devices.put((padded, same), devices.rows()),
        *devices.put((bank, labels), whole),
        temperature,
        block_size=min(block_size, max(len(padded) // devices.count(), 1)),
        mesh=devices.mesh(),
        **options,
    )
    return classes[:count] if missing else classes


def nearest(
    queries: np.ndarray, bank: np.ndarray, *, k: int, same: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the bank with the largest cosines to each query, nearest first.

    Args:
      queries: [Q, F].
      bank: [N, F].
      k: rows to return, K; fewer if the bank has fewer to compare with.
      same: bool [Q, N], at most one True in a row: pairs that show the same image,
        which are left out.

    Returns:
      (cosines [Q, K], rows of the bank int [Q, K]).
    """
    k = min(k, len(bank) - (same is not None))
    rows = normalize(jnp.asarray(bank))
    cosines = jnp.matmul(normalize(jnp.asarray(queries)), rows.T, precision="highest")
    if same is not None:
        cosines = jnp.where(same, -jnp.inf, cosines)
    largest, positions = jax.lax.top_k(cosines, k)
    return np.asarray(largest), np.asarray(positions)


def normalize(features: jax.Array) -> jax.Array:
    """Scales rows [..., D] to length 1, in float32; zero rows stay zero.

    Products of such rows are cosines. Unlike `losses.l2_normalize`, it also brings rows
    shorter than 1e-6 to length 1, but its gradient at a zero row is NaN.
    """
    features = features.astype(jnp.float32)
    # Of very long and very short rows, float32 cannot hold the squares. Powers of two
    # change no bit of the others.
    largest = jnp.max(jnp.abs(features), axis=-1, keepdims=True)
    scale = jnp.where(largest < 2.0**-36, 2.0**90, jnp.float32(1))
    features = features * jnp.where(largest > 2.0**54, 2.0**-73, scale)
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.maximum(norm, 1e-12)


@partial(jax.jit, static_argnames=("k", "num_classes", "block_size", "mesh"))
def _classify(
    queries: tuple[jax.Array, jax.Array],
    bank,
    labels,
    temperature,
    *,
    k: int,
    num_classes: int,
    block_size: int,
    mesh: Mesh | None = None,
):
    """See `knn`; `queries` are features and `same`. Each device classifies its own.

    XLA would compare on each device its own, but gather all similarities for `top_k`.
    """
    classify = partial(
        _classify_rows, k=k, num_classes=num_classes, block_size=block_size
    )
    return devices.by_rows(classify, mesh)(queries, bank, labels, temperature)


def _classify_rows(
    queries, bank, labels, temperature, *, k: int, num_classes: int, block_size: int
):
    bank = normalize(bank)
    rows = jnp.arange(block_size)[:, None]
    columns = jnp.arange(len(bank))[None]

    def vote(block):
        features, same = block
        similarity = jnp.matmul(normalize(features), bank.T, precision="highest")
        # It must neither vote nor take the place of a neighbour.
        similarity = jnp.where(columns == same[:, None], -jnp.inf, similarity)
        largest, index = jax.lax.top_k(similarity, k)
        # exp(s / 0.01) overflows float32; only the ratios of the weights matter.
        weights = jnp.exp((largest - largest[:, :1]) / temperature)
        weights = jnp.where(largest == -jnp.inf, 0.0, weights)
        votes = jnp.zeros([block_size, num_classes])
        return votes.at[rows, labels[index]].add(weights).argmax(-1)

    features, same = queries
    count, dim = features.shape
    padding = (0, -count % block_size)
    blocks = (
        jnp.pad(features, (padding, (0, 0))).reshape(-1, block_size, dim),
        jnp.pad(same, padding, constant_values=-1).reshape(-1, block_size),
    )
    classes = jax.lax.map(vote, blocks)
    return classes.reshape(-1)[:count].astype(jnp.int32)
