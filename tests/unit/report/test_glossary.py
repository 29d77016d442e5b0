"""Words that a page explains: which are found, and what happens to the rest."""

import re

import pytest

from simclr_jax.report import glossary


def words(text):
    return re.findall(r"<abbr[^>]*>([^<]*)</abbr>", glossary.marked(text))


@pytest.mark.parametrize(
    "text, found",
    [
        ("linear probe of raw features on h", ["linear probe", "h"]),
        ("on head_1 instead of z", ["head_1", "z"]),
        ("kNN, k 5", ["kNN"]),
        ("fine-tuned on 10 % of the labels", ["fine-tuned"]),
        ("t-SNE of h, RankMe, uniformity.", ["t-SNE", "h", "RankMe", "uniformity"]),
        ("photos/h.jpg, h/2, x-h, h-x, head_10, nothing", []),
    ],
)
def test_words_are_found_as_whole_words(text, found):
    assert words(text) == found
    assert re.sub("<.*?>", "", glossary.marked(text)) == text


def test_the_rest_is_text():
    shown = glossary.marked("<b>h</b> & 'x'")
    assert "<b>" not in shown
    assert "&lt;b&gt;<abbr" in shown
    assert "&amp;" in shown


def test_a_keyboard_reaches_each_word_and_the_list_has_all():
    shown = glossary.marked("RankMe")
    assert 'tabindex="0"' in shown
    assert f'title="{glossary.MEANINGS["RankMe"]}"' in shown
    assert re.findall("<dt>([^<]*)</dt>", glossary.listed()) == list(glossary.MEANINGS)
    for meaning in glossary.MEANINGS.values():
        assert meaning.endswith(".")
