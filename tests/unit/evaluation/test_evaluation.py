"""Metrics against independent references: NumPy double loops and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from simclr_jax.evaluation import features as evaluate


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Accuracies -----------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 9])
def test_top_k_is_sklearns_where_there_are_no_ties(rng, k):
    logits, labels = rng.normal(size=(50, 7)), rng.integers(7, size=50)
    expected = top_k_accuracy_score(
        labels, logits, k=min(k, 6), labels=range(7), normalize=False
    )
    found = evaluate.top_k(logits, labels, k)
    assert found.shape == (50,)
    assert found.dtype == bool
    assert found.sum() == (50 if k >= 7 else expected)
    jitted = jax.jit(evaluate.top_k, static_argnums=2)(
        jnp.asarray(logits), jnp.asarray(labels), k
    )
    np.testing.assert_array_equal(jitted, found)


@pytest.mark.parametrize("value", [0.0, 3.0, np.inf, -np.inf, np.nan])
def test_a_constant_predictor_is_never_right(value):
    logits, labels = np.full([8, 8], value), np.arange(8)
    zero = {"top1": 0.0, "top3": 0.0, "top5": 0.0}
    assert evaluate.accuracies(logits, labels) == zero
    assert not evaluate.top_k(jnp.asarray(logits), labels, 7).any()


def test_ties_count_against_the_label():
    logits = np.array([[2, 2, 1, 0], [2, 2, 1, 0], [np.nan, 2, 1, 0]])
    labels = np.array([0, 2, 1])
    assert evaluate.top_k(logits, labels, 1).tolist() == [False, False, False]
    assert evaluate.top_k(logits, labels, 2).tolist() == [True, False, True]
    assert evaluate.top_k(logits, labels, 3).tolist() == [True, True, True]


def test_accuracies_are_exact():
    logits = np.zeros([3, 6], np.float32)
    logits[:, 0] = 1
    logits[2, 1] = 2
    found = evaluate.accuracies(logits, np.array([0, 0, 0]))
    assert found == {"top1": 2 / 3, "top3": 1.0, "top5": 1.0}
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_few_classes(rng, classes):
    logits, labels = rng.normal(size=(20, classes)), rng.integers(classes, size=20)
    found = evaluate.accuracies(jnp.asarray(logits), jnp.asarray(labels))
    assert set(found) == {"top1", "top3"}
    assert found["top1"] == np.mean(logits.argmax(1) == labels)
    assert (found["top3"] == 1) == (classes <= 3)


@pytest.mark.parametrize("labels", [[0, -1], [0, 3], [0], []])
def test_accuracies_refuse(labels):
    with pytest.raises(ValueError, match="labels"):
        evaluate.accuracies(np.zeros([2, 3]), np.array(labels, int))


# Nearest neighbours ---------------------------------------------------------------


def clusters(rng, count, dim=6, classes=4, spread=1.5):
    labels = rng.integers(classes, size=count)
    features = np.eye(classes, dim)[labels] * 2 + rng.normal(size=(count, dim)) * spread
    return (features * rng.uniform(0.1, 9, [count, 1])).astype(np.float32), labels


def reference(queries, bank, labels, k, temperature, classes):
    found = []
    for query in queries.astype(np.float64):
        similarity = []
        for row in bank.astype(np.float64):
            similarity.append(query @ row / np.linalg.norm(query) / np.linalg.norm(row))
        votes = np.zeros(classes)
        for index in np.argsort(similarity)[::-1][:k]:
            votes[labels[index]] += np.exp(similarity[index] / temperature)
        found.append(votes.argmax())
    return np.array(found)


@pytest.mark.parametrize("block_size", [7, 40, 1024])
@pytest.mark.parametrize(
    "k, temperature", [(1, 0.1), (5, 0.07), (20, 1.0), (20, 0.01), (500, 0.5)]
)
def test_knn(rng, k, temperature, block_size):
    bank, labels = clusters(rng, 60)
    queries, truth = clusters(rng, 40)
    found = evaluate.knn(
        queries,
        bank,
        labels,
        k=k,
        temperature=temperature,
        num_classes=4,
        block_size=block_size,
    )
    assert found.dtype == jnp.int32
    expected = reference(queries, bank, labels, k, temperature, 4)
    np.testing.assert_array_equal(found, expected)
    sklearn = KNeighborsClassifier(
        n_neighbors=min(k, 60),
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp((1 - distance.astype(float)) / temperature),
    ).fit(bank, labels)
    np.testing.assert_array_equal(found, sklearn.predict(queries))
    assert len(set(expected)) == 4  # not the vote of a majority class
    assert 0.3 < np.mean(expected == truth) < 1


def test_knn_at_a_temperature_that_overflows(rng):
    """exp(1 / 0.005) is not a float32; the nearest neighbour must still decide."""
    bank, labels = clusters(rng, 60)
    found = evaluate.knn(
        bank, bank, labels, k=60, temperature=0.0005, num_classes=4, block_size=16
    )
    np.testing.assert_array_equal(found, labels)


def test_knn_keeps_one_block_in_memory():
    """256 queries against 512: no 256 x 512 array in the program, only 32 x 512."""
    shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ([256, 8], [512, 8]))
    text = str(
        jax.make_jaxpr(
            lambda q, b: evaluate._classify(
                q, b, jnp.zeros(512, int), 0.1, k=5, num_classes=3, block_size=32
            )
        )(*shapes)
    )
    assert "32,512" in text
    assert "256,512" not in text


def test_knn_refuses(rng):
    x = np.ones([3, 2])
    for labels in ([0, 1, 2], [0, 1, -1]):
        with pytest.raises(ValueError, match=r"not all in \[0, 2\)"):
            evaluate.knn(x, x, np.array(labels), num_classes=2)
    with pytest.raises(ValueError, match=r"\(3, 2\), \(3, 2\), \(2,\)"):
        evaluate.knn(x, x, np.zeros(2, int), num_classes=2)
    assert evaluate.knn(x[:0], x, np.zeros(3, int), num_classes=2).shape == (0,)


# Features -------------------------------------------------------------------------


def batches(images, labels, size):
    for start in range(0, len(images), size):
        padding = max(0, start + size - len(images))
        mask = np.arange(size) < size - padding
        image = np.pad(images[start : start + size], ((0, padding), (0, 0)))
        batch = {"image": image, "mask": mask}
        if labels is not None:
            batch["label"] = np.pad(labels[start : start + size], (0, padding))
        yield batch


@jax.jit
def embed(batch):
    return {"h": batch["image"] * 2, "z": (batch["image"] + 1).astype(jnp.bfloat16)}


@pytest.mark.parametrize("count", [1, 8, 19])
def test_extract_keeps_the_order_and_drops_the_padding(rng, count):
    images = rng.integers(100, size=(count, 3)).astype(np.float32)
    labels = rng.integers(5, size=count)
    features, found = evaluate.extract(embed, batches(images, labels, 8))
    assert set(features) == {"h", "z"}
    assert {x.dtype for x in features.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(features["h"], images * 2)
    np.testing.assert_array_equal(features["z"], images + 1)
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.int32


def test_extract_some_levels_without_labels(rng):
    images = rng.normal(size=(5, 3)).astype(np.float32)
    features, labels = evaluate.extract(embed, batches(images, None, 2), ("h",))
    assert set(features) == {"h"}
    assert labels.tolist() == [-1] * 5


def test_extract_rows_masked_in_the_middle():
    batch = {
        "image": np.eye(3, dtype=np.float32),
        "mask": np.array([True, False, True]),
    }
    features, labels = evaluate.extract(embed, [batch | {"label": np.arange(3)}])
    np.testing.assert_array_equal(features["h"], 2 * np.eye(3)[[0, 2]])
    assert labels.tolist() == [0, 2]


def test_extract_refuses_nothing():
    with pytest.raises(ValueError, match="no batches"):
        evaluate.extract(embed, [])


def test_standardize(rng):
    train = (rng.normal(size=(200, 3)) * [1, 100, 0] + [0, 1e4, 7]).astype(np.float32)
    test = rng.normal(size=(5, 3)).astype(np.float32)
    a, b = evaluate.standardize(train, test)
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_allclose(a.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(a.std(0), [1, 1, 0], atol=1e-5)
    again = (test - train.astype(float).mean(0)) / (train.astype(float).std(0) + 1e-6)
    np.testing.assert_allclose(b, again, rtol=1e-6)
