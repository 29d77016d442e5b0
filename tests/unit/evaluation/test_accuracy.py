"""Accuracies against scikit-learn and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from simclr_jax.evaluation import accuracies, top_k


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 9])
def test_top_k_is_sklearns_where_there_are_no_ties(rng, k):
    logits, labels = rng.normal(size=(50, 7)), rng.integers(7, size=50)
    expected = top_k_accuracy_score(
        labels, logits, k=min(k, 6), labels=range(7), normalize=False
    )
    hits = top_k(logits, labels, k)
    assert hits.shape == (50,)
    assert hits.dtype == bool
    assert hits.sum() == (50 if k >= 7 else expected)
    jitted = jax.jit(top_k, static_argnums=2)(
        jnp.asarray(logits), jnp.asarray(labels), k
    )
    np.testing.assert_array_equal(jitted, hits)


@pytest.mark.parametrize("value", [0.0, 3.0, np.inf, -np.inf, np.nan])
def test_a_constant_predictor_is_never_right(value):
    logits, labels = np.full([8, 8], value), np.arange(8)
    zero = {"top1": 0.0, "top3": 0.0, "top5": 0.0}
    assert accuracies(logits, labels) == zero
    assert not top_k(jnp.asarray(logits), labels, 7).any()


def test_ties_count_against_the_label():
    logits = np.array([[2, 2, 1, 0], [2, 2, 1, 0], [np.nan, 2, 1, 0]])
    labels = np.array([0, 2, 1])
    assert top_k(logits, labels, 1).tolist() == [False, False, False]
    assert top_k(logits, labels, 2).tolist() == [True, False, True]
    assert top_k(logits, labels, 3).tolist() == [True, True, True]


def test_accuracies_are_exact():
    logits = np.zeros([3, 6], np.float32)
    logits[:, 0] = 1
    logits[2, 1] = 2
    scores = accuracies(logits, np.array([0, 0, 0]))
    assert scores == {"top1": 2 / 3, "top3": 1.0, "top5": 1.0}
    assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_few_classes(rng, classes):
    logits, labels = rng.normal(size=(20, classes)), rng.integers(classes, size=20)
    scores = accuracies(jnp.asarray(logits), jnp.asarray(labels))
    assert set(scores) == {"top1", "top3"}
    assert scores["top1"] == np.mean(logits.argmax(1) == labels)
    assert (scores["top3"] == 1) == (classes <= 3)


def test_rows_without_a_label_are_not_counted(rng):
    logits, labels = rng.normal(size=(40, 7)), rng.integers(7, size=40)
    unknown = rng.random(40) < 0.4
    labels[0], logits[0] = 6, np.eye(7)[6]  # -1 would be read as the last class
    unknown[0] = True
    partly = np.where(unknown, -1, labels)
    expected = accuracies(logits[~unknown], labels[~unknown])
    assert accuracies(logits, partly) == expected != accuracies(logits, labels)
    for k in (1, 7):
        assert not top_k(logits, partly, k)[unknown].any()
        assert not top_k(jnp.asarray(logits), partly, k)[unknown].any()


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, -2], r"labels -2 to 0 are not all in \[-1, 3\)"),
        ([0, 3], r"labels 0 to 3 are not all in \[-1, 3\)"),
        ([0], r"labels \[N\]: \(\(2, 3\), \(1,\)\)"),
        ([-1, -1], "none of the 2 labels is known"),
    ],
)
def test_accuracies_refuse(labels, message):
    with pytest.raises(ValueError, match=message):
        accuracies(np.zeros([2, 3]), np.array(labels, int))


def test_accuracies_refuse_no_rows():
    with pytest.raises(ValueError, match="none of the 0 labels is known"):
        accuracies(np.zeros([0, 3]), np.zeros(0, int))
