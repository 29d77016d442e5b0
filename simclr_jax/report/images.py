"""The report's images: nearest neighbours, a map of the test images, the views."""

import html
import json
from typing import Any

import numpy as np

from simclr_jax import checkpoint, data
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import pretraining_folder
from simclr_jax.report import figures, gallery, pictures

_QUERIES = 12  # test images whose neighbours are shown
_WORST = 4  # and those with the most neighbours of another class
_MOST_NAMED = 20  # classes a legend can hold


def section(title: str, body: str) -> str:
    """A part of the page, and nothing where there is nothing to show."""
    return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def of_encoder(experiment: Experiment) -> list[str]:
    """What the newest pretrained encoder makes of the test images; [] without one."""
    folder = pretraining_folder(experiment.config, experiment.workdir.path)
    if not checkpoint.steps(folder):
        return []
    found = gallery.load(experiment)
    return [_map(experiment, found), _neighbours(experiment, found)]


def _neighbours(experiment: Experiment, found: gallery.Gallery) -> str:
    train, test = experiment.images.train, experiment.images.test
    own = test.labels[found.queries][:, None]
    labels = train.labels[found.neighbours]
    known = (own >= 0) & (labels >= 0)
    right = known & (labels == own)
    count = min(_QUERIES, len(found.queries))
    text = (
        f"{count} test images drawn at random, none of them selected, each with its "
        f"{found.neighbours.shape[1]} nearest among "
        f"{_of(int(found.bank_size), train.num_examples)} training images, by the "
        "cosine of h."
    )
    if known.any():
        text += (
            f" Of these neighbours {right[:count].sum()} of {known[:count].sum()} have "
            f"the class of their image; of those of {len(found.queries):,} test images "
            f"{100 * right.sum() / known.sum():.1f} %."
        )
    body = f"<p>{text}</p>" + _rows(experiment, found, range(count), known, right)
    wrong = (known & ~right).sum(1)
    worst = [int(i) for i in np.argsort(-wrong, kind="stable")[:_WORST] if wrong[i]]
    if worst:
        body += "<p>And, selected for it, those with the most neighbours of another "
        body += "class:</p>" + _rows(experiment, found, worst, known, right)
    return section("Nearest neighbours", body)


def _rows(experiment, found: gallery.Gallery, chosen, known, right) -> str:
    """The queries `chosen` and their neighbours, each marked right or wrong."""
    train, test = experiment.images.train, experiment.images.test
    chosen = list(chosen)
    queries = gallery.images(test, found.queries[chosen])
    neighbours = iter(gallery.images(train, found.neighbours[chosen].ravel()))
    rows = []
    for i, query in zip(chosen, queries, strict=True):
        cells = [_labelled_image(query, _name(test, found.queries[i]), "query")]
        for j, position in enumerate(found.neighbours[i]):
            name = _name(train, position)
            mark = ("right" if right[i, j] else "wrong") if known[i, j] else ""
            title = f"cosine {found.similarities[i, j]:.3f}"
            cells.append(_labelled_image(next(neighbours), name, mark, title))
        rows.append(f'<div class="neighbours">{"".join(cells)}</div>')
    return f'<div class="rows">{"".join(rows)}</div>'


def _of(some: int, total: int) -> str:
    return f"{total:,}" if some == total else f"{some:,} of {total:,}"


def _name(source: data.Source, position: Any) -> str:
    label = source.labels[position]
    return source.class_names[label] if label >= 0 else ""


def _labelled_image(pixels: np.ndarray, name: str, kind: str, title: str = "") -> str:
    sign = {"right": "\N{CHECK MARK} ", "wrong": "\N{BALLOT X} "}.get(kind, "")
    caption = f"<figcaption>{sign}{html.escape(name)}</figcaption>"
    image = pictures.tag(pictures.thumbnail(pixels), f"{kind} {name}".strip())
    return f'<figure class="{kind}" title="{title}">{image}{caption}</figure>'


def _map(experiment: Experiment, found: gallery.Gallery) -> str:
    if not len(found.mapped):
        return ""
    test = experiment.images.test
    labels, names = test.labels[found.mapped], test.class_names
    colours = figures.class_colours(len(names))
    by_point = [colours[label] if label >= 0 else "#808080" for label in labels]
    maps = (
        ("pretrained", "pretrained encoder", found.pretrained),
        ("random", "the same encoder, untrained", found.random_init),
    )
    drawn = "".join(
        f"<figure data-map><figcaption>{title}</figcaption>"
        f"{figures.scatter(f'map-{name}', points, by_point)}</figure>"
        for name, title, points in maps
    )
    legend = ""
    if 0 < len(names) <= _MOST_NAMED:
        legend = "".join(
            f'<li><i style="background:{colour}"></i>{html.escape(name)}</li>'
            for colour, name in zip(colours, names, strict=True)
        )
        legend = f'<ul class="legend">{legend}</ul>'
    tiles = gallery.images(test, found.mapped)
    uri, columns = pictures.sprite(np.stack([pictures.thumbnail(x) for x in tiles]))
    about = {
        "columns": columns,
        "rows": -(-len(tiles) // columns),
        "names": [_name(test, position) for position in found.mapped],
    }
    text = (
        f"t-SNE of h, {_of(len(found.mapped), test.num_examples)} test images"
        + (", coloured by class" if names else "")
        + ". Point at one, or tap it, to see the image. Distances between far groups "
        "mean little."
    )
    data = json.dumps(about).replace("<", "\\u003c")
    return section(
        "Map of the test images",
        f'<p>{text}</p>{legend}<div class="maps">{drawn}</div>'
        f'<div id="tip" hidden><i style="background-image:url({uri})"></i><b></b></div>'
        f'<script type="application/json" id="map-data">{data}</script>',
    )


def views(experiment: Experiment) -> str:
    """What this workdir's pretraining sees."""
    blocks = []
    for original, pairs in gallery.views(experiment):
        pictured = "".join(
            '<span class="pair">'
            + "".join(pictures.tag(view, "augmented view") for view in pair)
            + "</span>"
            for pair in pairs
        )
        image = pictures.tag(original, "original")
        blocks.append(f'<div class="views">{image}{pictured}</div>')
    text = (
        "What pretraining sees: an image as it is stored, then eight pairs of views of "
        "it, the first view above the second. The class should be there in each."
    )
    return section("Views", f"<p>{text}</p>{''.join(blocks)}")
