"""What an encoder is worth: accuracies, nearest neighbours, features of a data set.

Used by the stages knn, probe and finetune. Takes arrays and callables, no config.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def top_k(logits: Array, labels: Array, k: int) -> Array:
    """Whether each label is among the k classes with the largest logits.

    Ties count against the prediction: a constant predictor is right about nothing
    (as long as k is smaller than the number of classes), and so is one that says NaN.

    Args:
      logits: [N, C].
      labels: int [N], in [0, C).
      k: 1 or more; from C on everything is right.

    Returns:
      bool [N]: NumPy for NumPy, jax for jax (also under jit).
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    # "Not smaller" rather than "larger or equal", which is false for NaN.
    rank = (~(logits < own)).sum(-1) - 1
    return rank < k


def accuracies(logits: Array, labels: Array) -> dict[str, float]:
    """Top-1, top-3 and, with more than five classes, top-5 accuracy.

    Args:
      logits: [N, C], N at least 1. With C of 3 or less, top-3 is 1 by definition.
      labels: int [N], in [0, C).

    Returns:
      {"top1", "top3"[, "top5"]}: fractions in [0, 1].

    Raises:
      ValueError: there are no rows, or a label is outside of [0, C).
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"need logits [N, C], labels [N]: {logits.shape, labels.shape}"
        )
    _check_labels(labels, logits.shape[1])
    ks = (1, 3, 5) if logits.shape[1] > 5 else (1, 3)
    return {f"top{k}": float(np.mean(top_k(logits, labels, k))) for k in ks}


def knn(
    queries: Array,
    bank: Array,
    labels: Array,
    *,
    k: int = 200,
    temperature: float = 0.1,
    num_classes: int,
    block_size: int = 1024,
) -> jax.Array:
    """Classifies by a vote of the k most similar features of the bank.

    A neighbour of cosine similarity s votes for its class with exp(s / temperature).
    Memory is that of one [block_size, N] matrix.

    Args:
      queries: features [M, D]; need not be normalised.
      bank: features [N, D].
      labels: of the bank, int [N], in [0, num_classes).
      k: neighbours that vote; all N if there are fewer.
      temperature: greater than 0.
      num_classes: C.
      block_size: queries handled together.

    Returns:
      int32 [M]: the predicted classes; of equal votes, the lowest class.

    Raises:
      ValueError: shapes don't match, or a label is outside of [0, num_classes).

    References:
      Wu et al., Unsupervised feature learning via non-parametric instance
      discrimination, 2018, section 3.4 (with k 200, temperature 0.07).
    """
    if (
        queries.ndim != 2
        or bank.ndim != 2
        or queries.shape[1] != bank.shape[1]
        or labels.shape != bank.shape[:1]
        or not len(labels)
    ):
        raise ValueError(
            "need queries [M, D], bank [N, D], labels [N]: "
            f"{queries.shape}, {bank.shape}, {labels.shape}"
        )
    _check_labels(np.asarray(labels), num_classes)
    return _classify(
        jnp.asarray(queries),
        jnp.asarray(bank),
        jnp.asarray(labels),
        temperature,
        k=min(k, len(labels)),
        num_classes=num_classes,
        block_size=min(block_size, max(len(queries), 1)),
    )


@partial(jax.jit, static_argnames=("k", "num_classes", "block_size"))
def _classify(
    queries, bank, labels, temperature, *, k: int, num_classes: int, block_size: int
):
    bank = _normalize(bank)
    rows = jnp.arange(block_size)[:, None]

    def vote(block):
        similarity = jnp.matmul(_normalize(block), bank.T, precision="highest")
        nearest, index = jax.lax.top_k(similarity, k)
        # exp(s / 0.01) overflows float32; only the ratios of the weights matter.
        weights = jnp.exp((nearest - nearest[:, :1]) / temperature)
        votes = jnp.zeros([block_size, num_classes])
        return votes.at[rows, labels[index]].add(weights).argmax(-1)

    count, dim = queries.shape
    padded = jnp.pad(queries, ((0, -count % block_size), (0, 0)))
    found = jax.lax.map(vote, padded.reshape(-1, block_size, dim))
    return found.reshape(-1)[:count].astype(jnp.int32)


def _normalize(features):
    features = features.astype(jnp.float32)
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.maximum(norm, 1e-12)


def extract(
    embed: Callable[[dict[str, Any]], dict[str, jax.Array]],
    batches: Iterable[dict[str, Any]],
    levels: Iterable[str] | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Embeds a data set, in order and without the padding of its batches.

    Args:
      embed: batch -> {level: [B, D]}; jitted by the caller.
      batches: dicts with "mask" (bool [B], false for padding), what `embed` needs,
        and "label" (int [B]) if there are labels.
      levels: the levels to return; None is all of them.

    Returns:
      ({level: float32 [N, D]}, labels int32 [N]). Labels are -1 where a batch has
      none.

    Raises:
      ValueError: there are no batches.
    """
    levels = None if levels is None else tuple(levels)
    parts: list[dict[str, np.ndarray]] = []
    labels: list[np.ndarray] = []
    in_flight: deque = deque()

    def collect() -> None:
        outputs, mask = in_flight.popleft()
        parts.append(
            {name: np.asarray(x, np.float32)[mask] for name, x in outputs.items()}
        )

    for batch in batches:
        mask = np.asarray(batch["mask"])
        outputs = embed(batch)
        if levels is not None:
            outputs = {name: outputs[name] for name in levels}
        jax.copy_to_host_async(outputs)
        in_flight.append((outputs, mask))
        label = np.asarray(batch.get("label", np.full(len(mask), -1)), np.int32)
        labels.append(label[mask])
        if (
            len(in_flight) > 1
        ):  # the device works on one batch while we wait for another
            collect()
    while in_flight:
        collect()
    if not parts:
        raise ValueError("there are no batches to embed")
    features = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return features, np.concatenate(labels)


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and scales each feature to mean 0 and standard deviation 1 on `train`.

    Args:
      train: [N, D]; its means and deviations are used for both.
      test: [M, D].

    Returns:
      (train, test), float32. A feature that is constant on `train` becomes 0 there.
    """
    # Sums in float64, the arrays themselves never: they may be most of the memory.
    mean = train.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    centred, test = train - mean, test - mean
    variance = np.einsum("nd,nd->d", centred, centred, dtype=np.float64) / len(train)
    scale = (np.sqrt(variance) + 1e-6).astype(np.float32)[None]
    centred /= scale
    test /= scale
    return centred, test


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    low, high = labels.min(initial=0), labels.max(initial=0)
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels {low} to {high} are not all in [0, {num_classes})")
