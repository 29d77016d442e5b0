"""What the words on a page mean, in a sentence each, for readers new to the field."""

import re
from collections.abc import Iterable
from html import escape

# In the order in which the page lists them.
MEANINGS = {
    "h": "What the encoder makes of an image: a list of numbers. It is what you use.",
    "z": "What the projection head makes of h. Only the loss of pretraining sees it.",
    "head_1": "The output of the projection head's first layer, between h and z.",
    "linear probe": (
        "A linear classifier that is trained on h with labels, while the encoder stays "
        "as it is. It shows how much h tells about the classes."
    ),
    "kNN": (
        "An image gets the class that most of the k training images with the nearest h "
        "have. Nothing is trained."
    ),
    "fine-tuned": "The encoder and a classifier on it were trained on with labels.",
    "random encoder": (
        "The same network before any training. What is better than it has been learnt."
    ),
    "t-SNE": (
        "A drawing in the plane that puts images with similar h close together. "
        "Directions and large distances in it mean nothing."
    ),
    "RankMe": (
        "How many directions of h are in use, from 1 to its width. If it falls to a "
        "few, all images look alike to the encoder."
    ),
    "alignment": (
        "How far apart the z of two views of one image are: 0 is the same point, 4 is "
        "opposite."
    ),
    "uniformity": (
        "How evenly the z of different images cover the sphere: 0 is one point, lower "
        "is more even."
    ),
}
_WORD = re.compile(
    "|".join(rf"(?<![\w./-]){re.escape(word)}(?![\w/]|-\w)" for word in MEANINGS)
)


def marked(text: str) -> str:
    """Text as HTML, with the meaning of its words at the pointer and in focus."""

    def explained(match: re.Match[str]) -> str:
        word = match[0]
        about = escape(MEANINGS[word])
        return f'<abbr class="word" tabindex="0" title="{about}">{word}</abbr>'

    # No word has a character that is escaped, so that escaping first changes none.
    return _WORD.sub(explained, escape(text))


def paragraphs(texts: Iterable[str]) -> str:
    """As `html.paragraphs`, with words explained."""
    return "".join(f"<p>{marked(text)}</p>" for text in texts)


def listed() -> str:
    """All words and their meanings, to unfold: for touch, print and screen readers."""
    terms = "".join(
        f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>"
        for word, meaning in MEANINGS.items()
    )
    return f"<details><summary>Words on this page</summary><dl>{terms}</dl></details>"
