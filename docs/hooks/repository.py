"""What mkdocs builds beside the pages of docs/: README, and what pages link to.

On a Git host a page links to any file of the repository, as `../CONTRIBUTING.md`. The
site takes these files in: Markdown as pages, code as pages that show it, all else as it
is. Links are turned to where the files are on the site.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
START = "README.md"  # the site's first page
# Where the site says in words what a file of code says; generated.py makes the page.
INSTEAD = {"simclr_jax/config/defaults.py": "fields.md"}
CODE = {".py": "python", ".cff": "yaml"}

_LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FENCED = re.compile(r"^(```.*?^```)", flags=re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README and, page after page, what is linked to."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    todo = [START, "CHANGELOG.md", *pages]
    seen = {*todo, *INSTEAD}
    while todo:
        name = todo.pop()
        if not name.startswith("docs/"):
            files.append(_file(name, config))
        linked = dict.fromkeys(_targets(name))  # a page may link twice to a file
        new = [x for x in linked if x not in seen and (ROOT / x).exists()]
        seen.update(new)
        todo.extend(new)
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turns the links of a page of the repository to the places on the site."""
    uri = page.file.src_uri
    name = START if uri == place(START) else uri
    if not (ROOT / name).is_file():
        name = f"docs/{uri}"

    def there(target: str) -> str:
        return posixpath.relpath(place(_joined(name, target)), posixpath.dirname(uri))

    return _with_links(markdown, there)


def place(name: str) -> str:
    """Where a file of the repository is on the site, before Markdown becomes HTML."""
    if name == START:
        return "index.md"
    if name in INSTEAD:
        return INSTEAD[name]
    if (ROOT / name).is_dir():
        return f"{name}/index.md"
    shown = Path(name).suffix in (*CODE, ".ipynb")
    return f"{name.removeprefix('docs/')}{'.md' if shown else ''}"


def _joined(name: str, target: str) -> str:
    """A link's target as a path from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _with_links(markdown: str, there: Callable[[str], str]) -> str:
    """Replaces the relative links outside of code."""

    def replaced(link: re.Match) -> str:
        if re.match(r"[a-z]+:", link[1]):
            return link[0]
        return f"]({there(link[1])}{link[2] or ''})"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(replaced, prose) for prose in parts[::2]]
    return "".join(parts)


def _targets(name: str) -> list[str]:
    """The files of the repository that a page links to; those in a folder."""
    path = ROOT / name
    if path.is_dir():
        return [
            str(x.relative_to(ROOT)) for x in sorted(path.rglob("*")) if x.is_file()
        ]
    found: list[str] = []
    if path.suffix == ".md":
        _with_links(path.read_text(), lambda target: found.append(target) or target)
    return [_joined(name, target) for target in found]


def _file(name: str, config: MkDocsConfig) -> File:
    """A file of the repository as one of the site; the navigation need not name it."""
    path, text = ROOT / name, None
    if path.is_dir():
        links = "\n".join(
            f"- [{posixpath.relpath(x, name)}]({posixpath.relpath(place(x), name)})"
            for x in _targets(name)
        )
        text = f"# {name}\n\n{links}\n"
    elif path.suffix == ".ipynb":
        text = "\n".join(_cells(path))
    elif path.suffix in CODE:
        text = f"# {name}\n\n```{CODE[path.suffix]}\n{path.read_text()}```\n"
    return File.generated(
        config,
        place(name),
        content=text,
        abs_src_path=str(path) if text is None else None,
        inclusion=InclusionLevel.NOT_IN_NAV,
    )


def _cells(notebook: Path) -> Iterator[str]:
    """The cells of a notebook as Markdown."""
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        code = cell["cell_type"] == "code"
        yield f"```python\n{text}\n```\n" if code else f"{text}\n"
