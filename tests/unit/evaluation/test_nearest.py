"""Nearest neighbours by cosine, compared with NumPy's sorting."""

import numpy as np

from simclr_jax import evaluation


def test_nearest_are_those_of_the_largest_cosine():
    rng = np.random.default_rng(0)
    queries, bank = rng.normal(size=(7, 6)), rng.normal(size=(30, 6))
    bank *= rng.uniform(0.1, 10, (30, 1))  # lengths must not matter
    similarities, found = evaluation.nearest(queries, bank, k=5)
    for i, query in enumerate(queries):
        norms = np.linalg.norm(bank, axis=1) * np.linalg.norm(query)
        cosines = bank @ query / norms
        np.testing.assert_array_equal(found[i], np.argsort(-cosines)[:5])
        np.testing.assert_allclose(similarities[i], np.sort(cosines)[:-6:-1], 1e-5)
    assert evaluation.nearest(queries, bank[:3], k=5)[1].shape == (7, 3)


def test_no_image_is_its_own_neighbour():
    """Where one split is both: the second nearest comes first."""
    points = np.random.default_rng(0).normal(size=(12, 6))
    _, with_self = evaluation.nearest(points, points, k=5)
    np.testing.assert_array_equal(with_self[:, 0], np.arange(12))
    _, found = evaluation.nearest(points, points, k=5, same=np.eye(12, dtype=bool))
    np.testing.assert_array_equal(found[:, :4], with_self[:, 1:])
    same = np.eye(12, 3, dtype=bool)
    assert evaluation.nearest(points, points[:3], k=5, same=same)[1].shape[1] == 2
