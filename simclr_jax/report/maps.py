"""The map of the test images, and the search for images that are like one of them.

Python writes the images into the page once, as one picture. The page's script shows
parts of it.
"""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import figures, gallery
from simclr_jax.report.gallery import Gallery
from simclr_jax.report.glossary import paragraphs
from simclr_jax.report.html import section
from simclr_jax.report.images import called, class_of, of, sprite, thumbnail

_MOST_NAMED = 20  # the legend holds at most so many classes


def sections(experiment: Experiment, shown: Gallery) -> str:
    """The map and the search; nothing where there are too few images."""
    if not len(shown.mapped):
        return ""
    test = experiment.images.test
    labels, names = test.labels[shown.mapped], test.class_names
    colours = figures.class_colours(len(names))
    by_point = [colours[label] if label >= 0 else "#808080" for label in labels]
    maps = (
        ("pretrained", "pretrained encoder", shown.pretrained),
        ("random", "the same encoder, untrained", shown.random_init),
    )
    drawn = "".join(
        f"<figure data-map><figcaption>{title}</figcaption>"
        f"{figures.scatter(f'map-{name}', points, by_point)}</figure>"
        for name, title, points in maps
    )
    these, _ = called(experiment)
    text = (
        f"t-SNE of h, {of(len(shown.mapped), test.num_examples)} {these}"
        + (", coloured by class" if names else "")
        + ". Point at a mark, or tap it, to see its image. Distances between groups "
        "that are far apart mean little."
    )
    body = paragraphs([text]) + _legend(names, colours)
    body += f'<div class="maps">{drawn}</div>' + _data(experiment, shown)
    text = (
        f"The {shown.alike.shape[1]} nearest of the {len(shown.mapped):,} images of "
        "the map, by the cosine of h; rings on the map show where they lie. Choose an "
        "image here, or click its mark on the map."
    )
    search = '<div id="found" class="tiles" aria-live="polite"></div>'
    search += '<div id="choice" class="tiles"></div>'
    title = f"Map of the {these.removesuffix(' without labels')}"
    return section(title, body) + section(
        "Search by image", paragraphs([text]) + search
    )


def _legend(names: Sequence[str], colours: Sequence[str]) -> str:
    if not 0 < len(names) <= _MOST_NAMED:
        return ""
    entries = "".join(
        f'<li><i style="background:{colour}"></i>{escape(name)}</li>'
        for colour, name in zip(colours, names, strict=True)
    )
    return f'<ul class="legend">{entries}</ul>'


def _data(experiment: Experiment, shown: Gallery) -> str:
    """What the page's script shows: the images, their classes, files and neighbours."""
    test, files = experiment.images.test, experiment.images.file_names("test")
    mapped = shown.mapped
    tiles = np.stack([thumbnail(x) for x in gallery.images(test, mapped)])
    uri, columns = sprite(tiles)
    about = {
        "columns": columns,
        "rows": -(-len(tiles) // columns),
        "names": [class_of(test, position) for position in mapped],
        "files": [files[position] for position in mapped] if files else [],
        "alike": shown.alike.tolist(),
        # Not finite: of h that is not. JSON has no word for it.
        "cosines": np.nan_to_num(shown.cosines.astype(float)).round(3).tolist(),
    }
    data = json.dumps(about).replace("<", "\\u003c")
    return (
        f"<style>.tile {{ background-image: url({uri}); }}</style>"
        '<div id="tip" hidden><i class="tile"></i><b></b><small></small></div>'
        f'<script type="application/json" id="map-data">{data}</script>'
    )
