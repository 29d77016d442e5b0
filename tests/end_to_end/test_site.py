"""The site that `make docs` builds: without a warning, complete, and on its own."""

import html
import importlib
import os
import re
import shutil
import subprocess
import sys
import time

import browser
import pytest
from tiny import ENVIRONMENT, PATIENCE, ROOT

import simclr_jax
from simclr_jax import losses
from simclr_jax.config.fields import every_field
from simclr_jax.config.help import comments

pytestmark = pytest.mark.thorough
pytest.importorskip("mkdocs", reason="the extra docs is not installed")


def build(folder, cwd=ROOT):
    command = [sys.executable, "-W", "default", "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--site-dir", folder],
        cwd=cwd,
        env=os.environ | ENVIRONMENT | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    assert not re.search("warning|error", done.stderr, re.IGNORECASE), done.stderr
    return folder


def text(page):
    """What a reader sees of a page's content, without what leads to other pages."""
    article = page.read_text().partition("<article")[2].partition("</article>")[0]
    return html.unescape(re.sub(r"<[^>]*>", "", article))


def test_each_page_of_docs_is_there(site):
    pages = {page.stem for page in ROOT.glob("docs/*.md")}
    assert pages <= {page.stem for page in site.glob("*.html")}
    # README is the first page; its links, relative to the root, lead into the site.
    index = (site / "index.html").read_text()
    assert 'href="recipes.html"' in index
    assert 'href="benchmarks/results/gpu/index.html"' in index
    assert (site / "benchmarks/results/demo_report.png").exists()


def test_the_navigation_names_each_page_of_docs(site):
    index = (site / "index.html").read_text()
    named = set(re.findall(r'<a href="(\w+)\.html" class="md-nav__link', index))
    assert {page.stem for page in ROOT.glob("docs/*.md")} <= named
    assert {"fields", "api"} <= named


def test_all_fields_are_on_their_page_with_their_meaning(site):
    page, meanings = text(site / "fields.html"), comments()
    rows = set(re.findall(r'<code id="([\w.]+)">', (site / "fields.html").read_text()))
    assert rows == set(every_field())
    for path in rows:
        assert meanings[path].replace("`", "") in page, path
    assert "a tuple of different stages from: pretrain, knn" in page  # a rule


def test_the_api_has_each_public_function(site):
    page = (site / "api.html").read_text()
    shown = set(re.findall(r'id="(simclr_jax\.[\w.]+)"', page))
    for room in ("losses", "augment", "methods", "evaluation", "checkpoint"):
        module = importlib.import_module(f"simclr_jax.{room}")
        public = {name for name in module.__all__ if not name.isupper()}
        assert {f"simclr_jax.{room}.{name}" for name in public} <= shown
    for name in ("encoders.ResNet", "heads.Projector", "networks.Network"):
        assert f"simclr_jax.{name}" in shown
    # What can be imported from the package itself, by its last name.
    assert set(simclr_jax.__all__) <= {name.rpartition(".")[2] for name in shown}
    for name in ("nt_xent", "info_nce", "vicreg"):  # with its docstring
        first = getattr(losses, name).__doc__.partition("\n")[0]
        assert first in text(site / "api.html")


def test_no_page_loads_anything_from_elsewhere(site):
    """A link that a reader follows may lead to the web; what a page loads may not."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\ssrc=["']?([^"'\s>]+)"""
        r"""|<link\b(?=[^>]*\srel=["']?(?:stylesheet|preload|preconnect|icon|manifest))"""
        r"""[^>]*\shref=["']?([^"'\s>]+)"""
        r"""|url\(["']?([^"')]+)"""
        r"""|@import\s+["']([^"']+)"""
    )
    found = set()
    for path in (*pages, *site.rglob("*.css")):
        for groups in loads.findall(path.read_text()):
            found.add("".join(groups))
    assert any(name.endswith(".js") for name in found)
    assert any(name.endswith(".css") for name in found)
    assert [x for x in found if re.match(r"(\w+:)?//", x)] == []


@pytest.mark.skipif(browser.BINARY is None, reason="no Chromium here")
def test_the_search_works_in_files(site):
    with browser.Browser() as page:
        page.open(site / "index.html", width=1280)
        page.evaluate("document.querySelector('label[for=__search]').click()")
        page.evaluate(
            """const box = document.querySelector('input.md-search__input');
            box.focus();
            box.value = 'warmup_epochs';
            box.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));"""
        )
        found, deadline = "[]", time.monotonic() + PATIENCE / 60
        while "/fields.html" not in found and time.monotonic() < deadline:
            time.sleep(0.1)
            found = page.evaluate(
                "[...document.querySelectorAll('.md-search-result__link')].join()"
            )
        assert "/fields.html" in found
        assert page.errors == []
        assert all(url.startswith("file:") for url in page.requests)


def test_wrong_links_end_the_build(tmp_path):
    """A copy whose pages lead to a page and to a heading that there are not."""
    for path in ROOT.iterdir():
        if path.name != "docs":
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs" / "sweeps.md"
    wrong = "[a](nowhere.md) [b](training.md#no-such-heading)"
    page.write_text(f"{page.read_text()}\n{wrong}\n")
    done = build(tmp_path / "built", tmp_path)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
    assert "no-such-heading" in done.stderr
