"""The building blocks of a report page, for a run's report and for a sweep's.

Arguments are text, which is escaped here, except where a docstring says HTML.
"""

import importlib.resources
import json
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any


def page(title: str, summary: str, sections: Sequence[str]) -> str:
    """The whole page.

    Args:
      title: text of the heading and of the browser's tab.
      summary: text under the heading.
      sections: HTML, in order.
    """
    template = importlib.resources.files("simclr_jax.report") / "page.html"
    return string.Template(template.read_text()).substitute(
        title=escape(title), summary=escape(summary), body="\n".join(sections)
    )


def section(title: str, body: str) -> str:
    """A part of the page with a heading; nothing if `body` (HTML) is empty."""
    return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def lead(lines: str) -> str:
    """The page's first words: a paragraph for each line; nothing if there is none."""
    shown = "".join(f"<p>{escape(line)}</p>" for line in lines.splitlines())
    return f'<div class="lead">{shown}</div>' if shown else ""


def beside(*parts: str) -> str:
    """Parts (HTML) next to each other on a wide screen; empty ones are left out."""
    shown = [part for part in parts if part]
    if len(shown) < 2:
        return "".join(shown)
    return f'<div class="beside">{"".join(shown)}</div>'


def large_figure(svg: str, caption: str = "") -> str:
    """A plot as wide as the text, with `caption` (text) under it; nothing if there is
    no plot."""
    if not svg:
        return ""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="big">{svg}{words}</figure>'


def snippet(code: str) -> str:
    """Code to copy, with a button that copies it."""
    button = '<button type="button" class="copy">Copy</button>'
    return f'<div class="snippet">{button}<pre>{escape(code)}</pre></div>'


# Tables of results ------------------------------------------------------------


def cell(text: str, source: str = "") -> str:
    """One cell of a row; `source` is the place of its number in results.json."""
    place = f' data-result="{escape(source)}"' if source else ""
    return f"<td{place}>{escape(text)}</td>"


def bar(fraction: float) -> str:
    """A cell that shows a number in [0, 1] as the length of a bar."""
    return f'<td class="bar"><i style="width:{100 * fraction:.1f}%"></i></td>'


def row(
    name: str,
    cells: Iterable[str],
    *,
    baseline: bool = False,
    mark: Callable[[str], str] = escape,
) -> str:
    """One row: its name, then `cells` (HTML). A baseline is drawn paler.

    Args:
      mark: makes HTML of the name.
    """
    kind = ' class="baseline"' if baseline else ""
    return f'<tr{kind}><th scope="row">{mark(name)}</th>{"".join(cells)}</tr>'


def results_table(head: Iterable[str], rows: Iterable[str]) -> str:
    """A table: names of the columns as text, then the rows as HTML."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f'<table class="results"><tr>{names}</tr>{"".join(rows)}</table>'


# What was run -----------------------------------------------------------------


def definitions(facts: Mapping[str, Any]) -> str:
    """Names and their values as a list; a value that is None or "" is left out."""
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    return f"<dl>{terms}</dl>"


def provenance(
    facts: Mapping[str, Any],
    versions: Mapping[str, str],
    title: str,
    recipe: Mapping[str, Any],
) -> str:
    """What was run and on what.

    Args:
      facts: names and their values.
      versions: those of Python and of the packages, by name.
      title: the heading under which `recipe` is folded away.
      recipe: fields by path; a field that is None is left out.
    """
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    fields = "\n".join(
        f"{path} = {json.dumps(value)}"
        for path, value in recipe.items()
        if value is not None
    )
    return (
        f"{definitions({**facts, 'versions': packages})}"
        f"<details><summary>{escape(title)}</summary>"
        f"<pre>{escape(fields)}</pre></details>"
    )
