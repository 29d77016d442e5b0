"""Makers of the rules that a config field must keep; `validate.py` says which."""

import math
from collections.abc import Callable
from typing import Any

Rule = Callable[[Any], str | None]  # what would be accepted, or None if it is fine


def integer(low: int, high: float = math.inf) -> Rule:
    limit = "" if high == math.inf else f" and at most {high}"
    return lambda v: (
        None if low <= v <= high else f"an integer of at least {low}{limit}"
    )


def number(low: float, high: float = math.inf, *, open_low: bool = False) -> Rule:
    def rule(value: float) -> str | None:
        if (low < value if open_low else low <= value) and value <= high:
            return None
        if high == math.inf:
            return f"a number {'above' if open_low else 'of at least'} {low:g}"
        return f"a number {'above' if open_low else 'from'} {low:g} to {high:g}"

    return rule


def one_of(names: tuple) -> Rule:
    listed = ", ".join(map(str, names))
    return lambda value: None if value in names else f"one of: {listed}"


def interval(low: float, high: float = math.inf) -> Rule:
    def rule(value: tuple) -> str | None:
        numbers = all(isinstance(x, int | float) for x in value)
        if len(value) == 2 and numbers and low < value[0] <= value[1] <= high:
            return None
        limit = "" if high == math.inf else f" <= {high:g}"
        return f"two numbers, {low:g} < first <= second{limit}"

    return rule
