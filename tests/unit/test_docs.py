"""The pages: links lead somewhere, README stays short, and nothing is left unnamed."""

import re
from functools import cache
from pathlib import Path

import pytest
from tiny import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/results/**/*.md")
    for path in ROOT.glob(pattern)
)


def links(page: Path) -> list[str]:
    """The targets of a page's links, but for those on the web."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [x for x in targets if not re.match(r"[a-z]+:", x)]


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown's renderers make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_readme_is_read_in_one_go_and_names_every_page():
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 150
    named = {link.partition("#")[0] for link in links(readme)}
    pages = {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")}
    assert pages <= named


def test_each_test_that_the_page_on_reliability_names_exists():
    page = (ROOT / "docs" / "reliability.md").read_text()
    tables = re.findall(
        r"^\| what happens .*\n\|---.*\n((?:\|.*\n)+)", page, flags=re.M
    )
    faults = [row for rows in tables for row in rows.splitlines()]
    assert len(faults) > 30
    for row in faults:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (file, name)
