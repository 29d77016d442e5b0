"""What a recipe's sweep() may return, and what is rejected."""

import re

import pytest
from sweeps import toy

from simclr_jax.errors import RequestError

BROKEN = [
    ({"row": {}}, "unknown entry 'row'; entries: rows, baseline, score"),
    ({"rows": {}}, "no rows"),
    ({"rows": {"../up": {}}}, "can't name a folder"),
    ({"baseline": "three"}, "here refers to unknown row 'three'; rows: one, two"),
    ({"published": {"three": 1.0}}, "refers to unknown row 'three'; rows: one, two"),
    ({"score": "prob.pretrained"}, "prob.pretrained"),
]


@pytest.mark.parametrize("changes, word", BROKEN)
def test_a_sweep_that_is_not_of_the_form_is_refused(changes, word):
    with pytest.raises(RequestError, match=re.escape(word)):
        toy(**changes)
