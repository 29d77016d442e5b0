"""Parses the text of a flag into a value of its field's type."""

import ast
from typing import Any

_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")
# How a message names a type.
_NAMES = {
    str: "a string",
    bool: "True or False",
    int: "an integer",
    float: "a number",
    tuple: "a tuple",
}


def parse(text: str, kind: Any) -> Any:
    """`text` as a value of type `kind`.

        parse("3", float) == 3.0
        parse("pretrain,knn", tuple) == ("pretrain", "knn")
        parse("('pretrain',)", tuple) == ("pretrain",)

    Args:
      text: what follows the `=` of a flag.
      kind: str, bool, int, float or tuple; bool | str: a bool if the text is one,
        otherwise a string; None: any Python literal, otherwise a string.

    Raises:
      ValueError: the text is not a value of this type; the message says so.
    """
    try:
        return _PARSERS[kind](text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text!r} is not {_NAMES[kind or str]}") from error


def _bool(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError
    return text.lower() in _TRUE


def _bool_or_str(text: str) -> bool | str:
    return _bool(text) if text.lower() in _TRUE + _FALSE else text


def _int(text: str) -> int:
    return int(text, 16) if text.lower().startswith("0x") else int(text)


def _tuple(text: str) -> tuple:
    words = [word.strip() for word in text.split(",")]
    if all(word.isidentifier() for word in words):  # pretrain,knn without quotes
        return tuple(words)
    value = ast.literal_eval(text)
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


_PARSERS = {
    str: str,
    bool: _bool,
    bool | str: _bool_or_str,
    int: _int,
    float: float,
    tuple: _tuple,
    None: _literal,
}
