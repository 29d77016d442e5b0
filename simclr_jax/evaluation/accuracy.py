"""Accuracies from logits."""

import jax
import numpy as np

Array = jax.Array | np.ndarray


def top_k(logits: Array, labels: Array, k: int) -> Array:
    """Whether each label is among the k classes with the largest logits.

    Ties count against the prediction: a constant predictor is never right (as long as
    k is smaller than the number of classes), nor is one that returns NaN.

    Args:
      logits: [N, C].
      labels: int [N], in [0, C); -1 where unknown, which no prediction matches.
      k: 1 or more; if it is at least C, every known label counts as found.

    Returns:
      bool [N]: NumPy for NumPy, jax for jax (also under jit).

    Example:
      >>> logits = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
      >>> top_k(logits, np.array([1, 1]), 1), top_k(logits, np.array([1, 1]), 2)
      (array([False,  True]), array([ True,  True]))
    """
    at_label = logits[np.arange(len(labels)), labels][:, None]
    # "Not smaller" rather than "larger or equal", which is false for NaN.
    rank = (~(logits < at_label)).sum(-1) - 1
    return (rank < k) & (labels >= 0)


def accuracies(logits: Array, labels: Array) -> dict[str, float]:
    """Top-1, top-3 and, with more than five classes, top-5 accuracy.

    Args:
      logits: [N, C]. With C of 3 or less, top-3 is 1 by definition.
      labels: int [N], in [0, C); rows labelled -1 are not counted.

    Returns:
      {"top1", "top3"[, "top5"]}: fractions, in [0, 1], of the rows with a label.

    Raises:
      ValueError: no row has a label, or a label is outside of [-1, C).

    Example:
      >>> logits = np.array([[3.0, 2.0], [3.0, 2.0], [3.0, 2.0]])
      >>> accuracies(logits, np.array([0, 1, -1]))
      {'top1': 0.5, 'top3': 1.0}
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"need logits [N, C], labels [N]: {logits.shape, labels.shape}"
        )
    labelled = labelled_rows(labels, logits.shape[1])
    ks = (1, 3, 5) if logits.shape[1] > 5 else (1, 3)
    hits = {k: top_k(logits, labels, k)[labelled] for k in ks}
    return {f"top{k}": float(np.mean(hit)) for k, hit in hits.items()}


def labelled_rows(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """bool [N], True for known labels. ValueError if none is or one is not a class."""
    if ((labels < -1) | (labels >= num_classes)).any():
        span = f"labels {labels.min()} to {labels.max()}"
        raise ValueError(f"{span} are not all in [-1, {num_classes})")
    labelled = labels >= 0
    if not labelled.any():
        raise ValueError(f"none of the {len(labels)} labels is known")
    return labelled
