"""The report's images: nearest neighbours and views, and images inside HTML."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from simclr_jax import data
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import gallery
from simclr_jax.report.gallery import Gallery
from simclr_jax.report.glossary import paragraphs
from simclr_jax.report.html import section

_QUERIES = 12  # test images whose neighbours are shown
_WORST = 4  # then the test images with the most neighbours of another class
_THUMBNAIL = 64  # pixels; larger images are shrunk, smaller ones kept as they are


def called(experiment: Experiment) -> tuple[str, str]:
    """What the page calls the images of the test split, and those of the training
    split. Without labels there is nothing to test."""
    fields = experiment.config.data
    if fields.test_split == fields.train_split:
        return "images", "images"
    labelled = (experiment.images.test.labels >= 0).any()
    return "test images" if labelled else "images without labels", "training images"


def views(experiment: Experiment) -> str:
    """The section that shows augmented views as pretraining draws them."""
    blocks = []
    for original, pairs in gallery.views(experiment):
        columns = "".join(
            '<span class="pair">'
            + "".join(tag(view, "augmented view") for view in pair)
            + "</span>"
            for pair in pairs
        )
        blocks.append(f'<div class="views">{tag(original, "original")}{columns}</div>')
    text = (
        "What pretraining sees: an image as it is stored, then eight pairs of views of "
        "it, the first view above the second. Each view should still show the class."
    )
    return section("Views", paragraphs([text]) + "".join(blocks))


# Nearest neighbours -----------------------------------------------------------


def neighbours(experiment: Experiment, shown: Gallery) -> str:
    train, test = experiment.images.train, experiment.images.test
    query_labels = test.labels[shown.queries][:, None]
    labels = train.labels[shown.neighbours]
    labelled = (query_labels >= 0) & (labels >= 0)
    right = labelled & (labels == query_labels)
    count = min(_QUERIES, len(shown.queries))
    these, others = called(experiment)
    text = (
        f"{count} {these} drawn at random, none of them selected, each with its "
        f"{shown.neighbours.shape[1]} nearest among "
        f"{of(int(shown.bank_size), train.num_examples)} {others}, by the "
        "cosine of h."
    )
    if labelled.any():
        text += (
            f" {right[:count].sum()} of these {labelled[:count].sum()} neighbours have "
            "the class of their image. For "
            f"{len(shown.queries):,} {these} the share is "
            f"{100 * right.sum() / labelled.sum():.1f} %."
        )
    marks = np.where(labelled, np.where(right, "right", "wrong"), "")
    body = paragraphs([text]) + _rows(experiment, shown, range(count), marks)
    mistakes = (marks == "wrong").sum(1)
    worst = np.argsort(-mistakes, kind="stable")[:_WORST]
    worst = [int(i) for i in worst if mistakes[i]]
    if worst:
        text = f"Selected: the {these} with the most neighbours of another class."
        body += paragraphs([text]) + _rows(experiment, shown, worst, marks)
    return section("Nearest neighbours", body)


def _rows(
    experiment: Experiment, shown: Gallery, chosen: Sequence[int], marks: np.ndarray
) -> str:
    """The queries `chosen` and their neighbours.

    Args:
      marks: [Q, K], one for each neighbour: "right", "wrong", or "" without a label.
    """
    train, test = experiment.images.train, experiment.images.test
    rows = list(chosen)
    files, own = (experiment.images.file_names(x) for x in ("train", "test"))
    queries = gallery.images(test, shown.queries[rows])
    neighbours = iter(gallery.images(train, shown.neighbours[rows].ravel()))
    lines = []
    for i, query in zip(rows, queries, strict=True):
        place = shown.queries[i]
        file = own[place] if own else ""
        cells = [labelled_image(query, class_of(test, place), "query", file=file)]
        for j, position in enumerate(shown.neighbours[i]):
            title = f"cosine {shown.similarities[i, j]:.3f}"
            pixels, name = next(neighbours), class_of(train, position)
            file = files[position] if files else ""
            cells.append(labelled_image(pixels, name, marks[i, j], title, file=file))
        lines.append(f'<div class="neighbours">{"".join(cells)}</div>')
    return f'<div class="rows">{"".join(lines)}</div>'


def of(count: int, total: int) -> str:
    return f"{total:,}" if count == total else f"{count:,} of {total:,}"


def class_of(source: data.Source, position: int) -> str:
    """The class of an image; "" if it has no label."""
    label = source.labels[position]
    return source.class_names[label] if label >= 0 else ""


def labelled_image(
    pixels: np.ndarray, name: str, kind: str, title: str = "", *, file: str = ""
) -> str:
    """A picture with its class and, smaller, the last part of its file's name.

    Args:
      kind: "query", "right", "wrong" or "".
      title: shown at the pointer, with the whole name of the file.
    """
    sign = {"right": "\N{CHECK MARK} ", "wrong": "\N{BALLOT X} "}.get(kind, "")
    small = f"<small>{escape(PurePosixPath(file).name)}</small>" if file else ""
    caption = f"<figcaption>{sign}{escape(name)}{small}</figcaption>"
    image = tag(thumbnail(pixels), f"{kind} {name}".strip())
    about = escape(", ".join(filter(None, (file, title))))
    return f'<figure class="{kind}" title="{about}">{image}{caption}</figure>'


# Images inside HTML ----------------------------------------------------------


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] with at most 64 pixels a side."""
    if max(pixels.shape[:2]) <= _THUMBNAIL:
        return pixels
    picture = _picture(pixels)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(picture).reshape(*picture.size[::-1], pixels.shape[2])


def tag(pixels: np.ndarray, alt: str) -> str:
    """An <img> of uint8 [H, W, C]."""
    return f'<img src="{_uri(pixels)}" alt="{escape(alt)}">'


def sprite(pixels: np.ndarray) -> tuple[str, int]:
    """Many images as one, row by row.

    Args:
      pixels: uint8 [N, H, W, C], N at least 1.

    Returns:
      (data URI of the picture, images in a row of it).
    """
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = pixels
    grid = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = grid.reshape(rows * height, columns * width, channels)
    # A thousand colour images: 0.6 MB as JPEG, 3 MB as PNG.
    return _uri(sheet, "jpeg" if channels == 3 else "png"), columns


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _uri(pixels: np.ndarray, kind: str = "png") -> str:
    file = io.BytesIO()
    _picture(pixels).save(file, kind, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
