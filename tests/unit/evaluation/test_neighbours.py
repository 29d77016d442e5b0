"""Nearest neighbours against a NumPy double loop and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from simclr_jax.evaluation import knn, neighbours
from simclr_jax.evaluation.neighbours import normalize


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def clusters(rng, count, dim=6, classes=4, noise=1.5):
    labels = rng.integers(classes, size=count)
    features = np.eye(classes, dim)[labels] * 2 + rng.normal(size=(count, dim)) * noise
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
    found = knn(
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


@pytest.mark.parametrize("k", [1, 5, 500])
def test_an_image_does_not_vote_for_itself(rng, k):
    """On noise whose neighbours are random, k 1 gave 100 %: each image found itself."""
    bank, labels = clusters(rng, 60)
    labels[7], labels[20] = -1, -1  # their rows leave the bank and shift the others
    kept = labels >= 0
    expected = [
        reference(
            bank[[i]],
            *(x[kept & (np.arange(60) != i)] for x in (bank, labels)),
            k,
            0.1,
            4,
        )[0]
        for i in range(60)
    ]
    found = knn(bank, bank, labels, k=k, num_classes=4, same=np.arange(60))
    np.testing.assert_array_equal(found, expected)


def test_an_image_that_is_alone_has_no_neighbour(rng):
    """Not even itself: no vote, and of equal votes the lowest class."""
    bank, _ = clusters(rng, 1)
    found = knn(bank, bank, np.array([2]), num_classes=4, same=np.array([0]))
    assert found.tolist() == [0]


def test_rows_without_a_label_are_not_in_the_bank(rng):
    bank, labels = clusters(rng, 60)
    queries, _ = clusters(rng, 40)
    unknown = rng.random(60) < 0.5
    partly = np.where(unknown, -1, labels)
    for k in (5, 60):
        expected = reference(queries, bank[~unknown], labels[~unknown], k, 0.1, 4)
        for array in (np.asarray, jnp.asarray):
            found = knn(queries, array(bank), array(partly), k=k, num_classes=4)
            np.testing.assert_array_equal(found, expected)


def test_normalize_keeps_short_rows_and_zero():
    rows = normalize(jnp.array([[3.0, 4.0], [3e-9, 4e-9], [0.0, 0.0]]))
    expected = [[0.6, 0.8], [0.6, 0.8], [0, 0]]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_knn_at_a_temperature_that_overflows(rng):
    """exp(1 / 0.005) is not a float32; the nearest neighbour must still decide."""
    bank, labels = clusters(rng, 60)
    found = knn(
        bank, bank, labels, k=60, temperature=0.0005, num_classes=4, block_size=16
    )
    np.testing.assert_array_equal(found, labels)


def test_knn_keeps_one_block_in_memory():
    """256 queries against 512: no 256 x 512 array in the program, only 32 x 512."""
    shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ([256, 8], [512, 8]))
    text = str(
        jax.make_jaxpr(
            lambda q, b: neighbours._classify(
                (q, jnp.full(256, -1)),
                b,
                jnp.zeros(512, int),
                0.1,
                k=5,
                num_classes=3,
                block_size=32,
            )
        )(*shapes)
    )
    assert "32,512" in text
    assert "256,512" not in text


def test_knn_refuses(rng):
    x = np.ones([3, 2])
    for labels in ([0, 1, 2], [0, 1, -2]):
        with pytest.raises(ValueError, match=r"not all in \[-1, 2\)"):
            knn(x, x, np.array(labels), num_classes=2)
    with pytest.raises(ValueError, match="none of the 3 labels is known"):
        knn(x, x, np.full(3, -1), num_classes=2)
    with pytest.raises(ValueError, match=r"\(3, 2\), \(3, 2\), \(2,\)"):
        knn(x, x, np.zeros(2, int), num_classes=2)
    assert knn(x[:0], x, np.zeros(3, int), num_classes=2).shape == (0,)
