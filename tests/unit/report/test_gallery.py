"""The report's arrays: kept in the workdir, read in any order, mapped by t-SNE."""

from types import SimpleNamespace

import numpy as np
import pytest

from simclr_jax.report import gallery


def test_the_map_keeps_groups_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 12)
    points = gallery.tsne(np.eye(3)[groups] + 0.1 * rng.normal(size=(36, 3)), seed=1)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(1)] == groups).all()


@pytest.mark.parametrize("value", [0.0, 0.25, np.nan, np.inf])
def test_features_that_do_not_differ_lie_at_one_point(value):
    """scikit-learn's t-SNE ends the process on these: it divides by their spread."""
    points = gallery.tsne(np.full([40, 6], value, np.float32), seed=0)
    np.testing.assert_array_equal(points, np.zeros([40, 2]))


def test_features_that_differ_by_rounding_alone_do_not_differ():
    one = np.linspace(1, 2, 6, dtype=np.float32)
    features = np.tile(one, (40, 1))
    features[::2] = np.nextafter(one, 3)
    np.testing.assert_array_equal(gallery.tsne(features, seed=0), np.zeros([40, 2]))


def test_one_image_that_is_not_finite_costs_the_map():
    features = np.random.default_rng(0).normal(size=(40, 6))
    features[3, 2] = np.nan
    np.testing.assert_array_equal(gallery.tsne(features, seed=0), np.zeros([40, 2]))


ARRAYS = gallery.Gallery(
    step=np.array(7),
    queries=np.array([3, 1]),
    bank_size=np.array(5),
    neighbours=np.array([[0], [4]]),
    similarities=np.array([[0.5], [0.25]]),
    mapped=np.array([], int),
    pretrained=np.zeros([0, 2]),
    random_init=np.zeros([0, 2]),
    alike=np.zeros([0, 0], int),
    cosines=np.zeros([0, 0]),
    data=np.array("{}"),
)


@pytest.mark.parametrize(
    "step, damaged, computed",
    [(7, "", 0), (8, "", 1), (7, "cut", 1), (7, "older", 1)],
)
def test_the_gallery_is_computed_once_for_each_step(
    tmp_path, monkeypatch, step, damaged, computed
):
    """And again if what the workdir keeps is not whole, or an older version's."""
    experiment = SimpleNamespace(
        workdir=SimpleNamespace(path=tmp_path),
        pretrained=(step, {}, {}),
        fingerprints=lambda test: {},
    )
    calls = []

    def compute(asked):
        calls.append(asked)
        return ARRAYS._replace(step=np.array(step))

    file = tmp_path / "stages/report/gallery.npz"
    file.parent.mkdir(parents=True)
    arrays = ARRAYS._asdict()
    if damaged == "older":
        del arrays["alike"], arrays["cosines"]
    np.savez(file, **arrays)
    if damaged == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    monkeypatch.setattr(gallery, "_compute", compute)
    for _ in range(2):  # what was computed is kept
        assert gallery.load(experiment).step == step
        assert len(calls) == computed
    np.testing.assert_array_equal(gallery.load(experiment).queries, [3, 1])


def test_images_that_are_alike_are_those_of_the_largest_cosine(run):
    found = gallery._compute(run)
    features, _ = run.own_features("pretrained", "test", ("h",))
    h = features["h"][found.mapped].astype(np.float64)
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    cosines = h @ h.T
    np.fill_diagonal(cosines, -2)  # no image is like itself
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :8], 1e-4)
    own = np.take_along_axis(cosines, found.alike, axis=1)
    np.testing.assert_allclose(own, found.cosines, 1e-4)


class Streamed:
    """Ten images of one pixel, their value their position; read forwards only."""

    def images(self, positions):
        assert (np.diff(positions) > 0).all()
        return positions[:, None, None, None].astype(np.uint8)


def test_images_come_in_the_order_asked_for():
    pixels = gallery.images(Streamed(), np.array([8, 2, 2, 9, 0]))
    assert pixels.shape == (5, 1, 1, 1)
    assert pixels.ravel().tolist() == [8, 2, 2, 9, 0]
