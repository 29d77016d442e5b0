"""The report's near-duplicates and outliers, from the neighbours in the gallery."""

import numpy as np

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import gallery
from simclr_jax.report.gallery import Gallery
from simclr_jax.report.glossary import paragraphs
from simclr_jax.report.html import section
from simclr_jax.report.images import called, class_of, labelled_image

THRESHOLD = 0.99  # a cosine of h from which two images count as near-duplicates
_SHOWN = 12  # of each kind


def duplicates(shown: Gallery, *, one_split: bool) -> np.ndarray:
    """The places (query, neighbour) in `shown.neighbours` of all pairs of images with a
    cosine of at least `THRESHOLD`, the most similar first: int [P, 2].

    Args:
      one_split: queries and neighbours are images of one split; then each pair counts
        once, whichever of the two is the query.
    """
    places = np.argwhere(shown.similarities >= THRESHOLD)
    order = np.argsort(-shown.similarities[tuple(places.T)], kind="stable")
    places = places[order]
    if not one_split or not len(places):
        return places
    images = [shown.queries[places[:, 0]], shown.neighbours[tuple(places.T)]]
    _, first = np.unique(
        np.sort(np.stack(images, 1), axis=1), axis=0, return_index=True
    )
    return places[np.sort(first)]


def outliers(shown: Gallery) -> np.ndarray:
    """The queries in the order of the cosine to their nearest neighbour, the least
    similar first: rows of `shown.queries`."""
    return np.argsort(shown.similarities[:, 0], kind="stable")


def of_neighbours(experiment: Experiment, shown: Gallery) -> str:
    """The section; nothing where there are no neighbours or their h is not finite."""
    if not shown.similarities.size or not np.isfinite(shown.similarities).all():
        return ""
    fields = experiment.config.data
    found = duplicates(shown, one_split=fields.test_split == fields.train_split)
    these, others = called(experiment)
    among = f"{len(shown.queries):,} {these} and {int(shown.bank_size):,} {others}"
    text = (
        f"Pairs of images with a cosine of h of {THRESHOLD} or more: {len(found):,}, "
        f"counting the {shown.neighbours.shape[1]} nearest of each, among {among}."
    )
    have = len(set(found[:, 0].tolist()))
    if 2 * have > len(shown.queries):
        text += (
            f" {have:,} of the {these} have such a neighbour, too many to be copies: "
            "by this encoder so large a cosine says little."
        )
    body = paragraphs([text]) + _pairs(experiment, shown, found[:_SHOWN])
    least = outliers(shown)[:_SHOWN]
    text = (
        f"Outliers: the {these} whose nearest neighbour is the least similar, each "
        "with that neighbour."
    )
    places = np.stack([least, np.zeros_like(least)], 1)
    body += paragraphs([text]) + _pairs(experiment, shown, places)
    return section("Near-duplicates and outliers", body)


def _pairs(experiment: Experiment, shown: Gallery, places: np.ndarray) -> str:
    """A query and one neighbour of it for each of `places` [P, 2]."""
    if not len(places):
        return ""
    sides = []
    for split, positions in (
        ("test", shown.queries[places[:, 0]]),
        ("train", shown.neighbours[tuple(places.T)]),
    ):
        source = getattr(experiment.images, split)
        files = experiment.images.file_names(split)
        pixels = gallery.images(source, positions)
        sides.append(
            [
                labelled_image(
                    picture, class_of(source, k), "", file=files[k] if files else ""
                )
                for picture, k in zip(pixels, positions, strict=True)
            ]
        )
    cosines = shown.similarities[tuple(places.T)]
    drawn = "".join(
        f'<div class="neighbours twins">{a}{b}<small>cosine {cosine:.3f}</small></div>'
        for a, b, cosine in zip(*sides, cosines, strict=True)
    )
    return f'<div class="pairs">{drawn}</div>'
