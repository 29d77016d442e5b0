"""A linear classifier on each level of frozen features, all trained in one step.

It is a multinomial logistic regression on features, by default standardised by the
training images. Each level (h, head_1, ..., z) has its own classifier, which no other
level's gradient reaches, so that one run compares the levels under one protocol.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simclr_jax import data, devices, evaluation
from simclr_jax.experiment.features import Features

_ROWS = 8192


def loss_fn(params, model_state, key, batch):
    """Sum over levels of the mean cross-entropy; the levels share no parameters."""
    del key
    losses = {
        level: optax.softmax_cross_entropy_with_integer_labels(
            _logits(params[level], batch[level]), batch["label"]
        ).mean()
        for level in params
    }
    metrics = {f"loss_{level}": loss for level, loss in losses.items()}
    return jnp.stack([*losses.values()]).sum(), (model_state, metrics)


def _logits(params: dict[str, jax.Array], features: jax.Array) -> jax.Array:
    return features @ params["kernel"] + params["bias"][None]


class LinearProbe:
    """The linear classifiers of all levels, with their data.

    Args:
      train: the features to train on, by which `test` is standardised too; every image
        has a label.
      test: the features to score; images labelled -1 don't count.
      num_classes: C.
      standardize: whether each feature gets mean 0 and standard deviation 1 on `train`.

    Attributes:
      num_examples: N of `train`.
    """

    def __init__(
        self,
        train: Features,
        test: Features,
        num_classes: int,
        *,
        standardize: bool = True,
    ):
        features, self._labels = train
        test_features, self._test_labels = test
        scale = _standardized if standardize else _as_they_are
        self._train, self._test = {}, {}
        for level in features:
            scaled = scale(features[level], test_features[level])
            self._train[level], self._test[level] = scaled
        self._num_classes = num_classes
        self.num_examples = len(self._labels)

    def init(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Zero classifiers: a convex problem needs no random start."""
        params = {
            level: {
                "kernel": jnp.zeros([x.shape[1], self._num_classes]),
                "bias": jnp.zeros([self._num_classes]),
            }
            for level, x in self._train.items()
        }
        return params, {}

    def batches(
        self, batch_size: int, *, seed: tuple[int, ...], start: int
    ) -> Iterator[dict[str, Any]]:
        """Endless batches from step `start` on, which `data.take` gathers."""
        labels = devices.put(jnp.asarray(self._labels), devices.whole())
        dataset = self._train | {"label": labels}
        indices = data.shuffled(self.num_examples, batch_size, seed=seed, start=start)
        return ({"index": index, "dataset": dataset} for index in indices)

    def scores(self, params: Any) -> dict[str, dict[str, float]]:
        """Each level's top-k accuracies on the test images."""
        logits = {k: _logits(params[k], x) for k, x in self._test.items()}
        return {
            level: evaluation.accuracies(x, self._test_labels)
            for level, x in logits.items()
        }


def folded(classifier: Any, features: np.ndarray, *, standardize: bool) -> Any:
    """A level's classifier for features as they are, without the standardisation.

    Args:
      classifier: `{"kernel" [D, C], "bias" [C]}`.
      features: [N, D], those that it was trained on.
      standardize: whether they were standardised.

    Returns:
      The same in NumPy; float32.
    """
    kernel, bias = (np.asarray(classifier[x], np.float64) for x in ("kernel", "bias"))
    if standardize:
        mean, squares = features.mean(0, dtype=np.float64), 0.0
        for rows in range(0, len(features), _ROWS):  # in float64 all may be too large
            part = features[rows : rows + _ROWS].astype(np.float64) - mean[None]
            squares = squares + np.square(part).sum(0)
        # As `evaluation.standardize` divides.
        kernel = kernel / (np.sqrt(squares / len(features)) + 1e-6)[:, None]
        bias = bias - mean @ kernel
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _as_they_are(train: Any, test: Any) -> tuple[jax.Array, jax.Array]:
    pair = jnp.asarray(train), jnp.asarray(test)
    return devices.put(pair, devices.whole())


def _standardized(train: Any, test: Any) -> tuple[jax.Array, jax.Array]:
    """On a GPU by XLA, on the CPU by NumPy, which is four times faster there."""
    if jax.default_backend() == "cpu":
        scaled = evaluation.standardize(np.asarray(train), np.asarray(test))
        return _as_they_are(*scaled)
    # Copies, whose memory the results take.
    pair: Any = jnp.array(train), jnp.array(test)
    return _as_they_are(*evaluation.standardize(*pair, donate=True))
