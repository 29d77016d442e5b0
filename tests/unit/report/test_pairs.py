"""Near-duplicates and outliers, on neighbours and cosines written by hand."""

import re

import numpy as np
import pytest

from simclr_jax.report import gallery, pairs


@pytest.fixture
def shown():
    """Three queries, images 4, 2 and 7, with two neighbours each."""
    none = np.zeros([0, 2])
    return gallery.Gallery(
        step=np.array(1),
        queries=np.array([4, 2, 7]),
        bank_size=np.array(9),
        neighbours=np.array([[2, 5], [4, 7], [1, 2]]),
        similarities=np.array([[0.995, 0.3], [0.995, 0.99], [0.999, 0.99]]),
        mapped=np.array([], int),
        pretrained=none,
        random_init=none,
        alike=np.zeros([0, 0], int),
        cosines=np.zeros([0, 0]),
        data=np.array("{}"),
    )


def test_a_pair_counts_from_the_threshold_up_the_most_similar_first(shown):
    found = pairs.duplicates(shown, one_split=False)
    assert found.tolist() == [[2, 0], [0, 0], [1, 0], [1, 1], [2, 1]]
    below = shown._replace(similarities=shown.similarities - 0.1)
    assert pairs.duplicates(below, one_split=False).shape == (0, 2)
    assert pairs.duplicates(below, one_split=True).shape == (0, 2)


def test_of_one_split_a_pair_counts_once(shown):
    """4 with 2 is 2 with 4, and 2 with 7 is 7 with 2."""
    found = pairs.duplicates(shown, one_split=True)
    assert found.tolist() == [[2, 0], [0, 0], [1, 1]]


def test_outliers_are_far_from_their_nearest(shown):
    cosines = np.array([[0.5, 0.1], [0.2, 0.2], [0.9, 0.0]])
    assert pairs.outliers(shown._replace(similarities=cosines)).tolist() == [1, 0, 2]


def test_the_section_shows_a_copy_and_the_images_own_files(run):
    """A copy that was put among the cosines comes first, with both of its files."""
    found = gallery.load(run)
    files = run.images.file_names("train")
    cosines = np.linspace(0.9, 0.1, found.similarities.size)
    cosines = cosines.reshape(found.similarities.shape)
    cosines[3, 0] = 0.999
    text = pairs.of_neighbours(run, found._replace(similarities=cosines))
    assert "0.99 or more: 1, counting" in re.sub("<.*?>", "", text)
    assert "24 images and 24 images" in text
    assert "too many to be copies" not in text
    titles = re.findall(r'title="([^"]*\.png)"', text)
    first = [found.queries[3], found.neighbours[3, 0]]
    assert titles[:2] == [files[k] for k in first]
    assert len(titles) == 2 + 2 * 12
    last = [found.queries[23], found.neighbours[23, 0]]
    assert titles[2:4] == [files[k] for k in last]
    assert text.index("cosine 0.999") < text.index("Outliers")


def test_a_threshold_that_most_images_pass_is_said_to_say_little(run):
    found = gallery.load(run)
    same = np.full_like(found.similarities, 1.0)
    assert "too many to be copies" in pairs.of_neighbours(
        run, found._replace(similarities=same)
    )
    same[0, 0] = np.nan
    assert pairs.of_neighbours(run, found._replace(similarities=same)) == ""
