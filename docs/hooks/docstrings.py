"""Reads this project's docstrings as griffe expects them."""

from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """The section `Example:` of doctests is called `Examples:` in Google's style."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section."""
        if obj.docstring is not None:
            text = f"{obj.docstring.value}\n"
            obj.docstring.value = text.replace("\nExample:\n", "\nExamples:\n").rstrip()
