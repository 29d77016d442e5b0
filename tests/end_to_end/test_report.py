"""The report of whole runs, and its page in a browser."""

import json
import re
import shutil

import browser
import numpy as np
import pytest
from tiny import launch, recipe, squares


@pytest.fixture(scope="module")
def workdir(whole):
    """A whole run, and what it printed."""
    return whole.workdir, whole.stdout


def test_the_terminal_ends_with_the_table_and_the_report(workdir):
    path, printed = workdir
    lines = printed.splitlines()
    assert f"report: {path}/report.html" in lines[-3:]
    assert lines[-1].endswith(f"load({str(path)!r}).embed(['photo.jpg'])")
    assert any(line.startswith("test accuracy, %") for line in lines[-18:])


def test_images_are_embedded_once(npz, workdir, tmp_path):
    """The second report takes what the first found."""
    path = tmp_path / "copy"
    shutil.copytree(workdir[0], path)
    kept = path / "stages/report/gallery.npz"
    arrays = dict(np.load(kept))
    arrays["similarities"] = np.full_like(arrays["similarities"], 0.123)
    np.savez(kept, **arrays)
    again = launch(*recipe(npz), f"--workdir={path}", "--config.stages=('report',)")
    assert again.returncode == 0, again.stderr
    assert "cosine 0.123" in (path / "report.html").read_text()


def test_a_few_images_without_labels_make_a_page(tmp_path):
    """No marks, no map."""
    images, _ = squares(20, 0)
    bare = tmp_path / "bare.npz"
    np.savez(bare, train_images=images, test_images=images[:4])
    flags = [*recipe(bare), "--config.probe.every_epochs=0", "--config.max_steps=1"]
    flags += ["--config.stages=('pretrain','report')", f"--workdir={tmp_path}/bare"]
    done = launch(*flags)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "bare/report.html").read_text()
    assert "Nearest neighbours" in page
    assert "Views" in page
    assert "\N{CHECK MARK}" not in page
    assert "\N{BALLOT X}" not in page
    assert "Map of" not in page  # four images
    assert "<h2>Pretraining</h2>" not in page  # a single record


needs_browser = pytest.mark.skipif(
    browser.BINARY is None, reason="no Chromium is installed"
)


@needs_browser
def test_the_browser_tells_of_requests_and_errors(tmp_path):
    """What the next test asserts the absence of is seen where it is present."""
    page = tmp_path / "page.html"
    page.write_text('<img src="http://localhost:1/x.png"><script>missing()</script>')
    with browser.Browser() as opened:
        opened.open(page, width=800)
        assert opened.requests == ["http://localhost:1/x.png"]
        assert any("missing" in error for error in opened.errors)


@needs_browser
def test_the_page_in_a_browser(workdir):
    results = json.loads((workdir[0] / "results.json").read_text())
    with browser.Browser() as opened:
        colours = []
        for width, dark in ((1280, False), (390, True)):
            opened.open(workdir[0] / "report.html", width=width, dark=dark)
            root = "document.documentElement"
            assert opened.evaluate(f"{root}.scrollWidth") <= width
            style = "getComputedStyle(document.body)"
            colours.append(opened.evaluate(f"[{style}.color,{style}.backgroundColor]"))
        assert _brightness(colours[0][0]) < 80 < 230 < _brightness(colours[0][1])
        assert _brightness(colours[1][1]) < 80 < 200 < _brightness(colours[1][0])
        _check_cells(opened, results)
        _check_map(opened)
        _check_words(opened)
        _check_search(opened)
        assert opened.requests == []
        assert opened.errors == []


def _brightness(colour):
    return np.mean([int(x) for x in re.findall(r"\d+", colour)[:3]])


def _check_cells(opened, results):
    cells = opened.evaluate(
        "[...document.querySelectorAll('[data-result]')]"
        ".map(x => [x.dataset.result, x.textContent])"
    )
    shown = dict(cells)
    expected = {}
    for stage in ("finetune", "probe"):
        for arm in ("pretrained", "random_init"):
            for top in ("top1", "top3"):
                expected[f"{stage}.{arm}.{top}"] = results[stage][arm][top]
    for level in ("head_1", "z"):
        expected[f"probe.layers.{level}"] = results["probe"]["layers"][level]
    expected["knn.top1"] = results["knn"]["top1"]
    for top in ("top1", "top3"):
        expected[f"supervised.{top}"] = results["supervised"][top]
    assert shown == {path: f"{100 * x:.1f}" for path, x in expected.items()}
    assert len(cells) == len(shown)


def _check_words(opened):
    """A word that has the focus shows its meaning, inside the window."""
    word = "[...document.querySelectorAll('.word')].find(x => x.textContent == 'kNN')"
    after = f"getComputedStyle({word}, '::after')"
    assert opened.evaluate(f"{after}.content") == "none"
    opened.evaluate(f"{word}.focus()")
    shown = opened.evaluate(f"{after}.content")
    assert shown == opened.evaluate(f"JSON.stringify({word}.title)")
    assert "Nothing is trained" in shown
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def _check_search(opened):
    """Choosing an image shows those that are like it, the nearest first."""
    found = "[...document.querySelectorAll('#found small')].map(x => x.textContent)"
    data = "JSON.parse(document.getElementById('map-data').textContent)"
    names, alike, cosines = (
        opened.evaluate(f"{data}.{name}") for name in ("names", "alike", "cosines")
    )
    for i in (0, 5):
        opened.evaluate(f"document.querySelectorAll('#choice button')[{i}].click()")
        near = [
            f"{c:.2f} {names[j]}" for c, j in zip(cosines[i], alike[i], strict=True)
        ]
        shown = opened.evaluate(found)
        assert shown[0] == names[i]
        assert [x.split()[1] for x in shown[1:]] == [x.split()[1] for x in near]
        assert len(shown) == 9
    marked = "[...document.querySelectorAll('[data-map]')].map(m => m.querySelectorAll"
    assert opened.evaluate(f"{marked}('use.like').length)") == [8, 8]
    # A neighbour can be chosen in turn.
    opened.evaluate("document.querySelectorAll('#found button')[1].click()")
    assert opened.evaluate(found)[0] == names[alike[5][0]]
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def _check_map(opened):
    """Pointing at an image's mark shows it; pointing elsewhere does not."""
    mark = "document.querySelectorAll('[data-map] use')[3]"
    opened.evaluate(f"{mark}.scrollIntoView({{block: 'center'}})")
    x, y = opened.evaluate(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        f"({mark}.getBoundingClientRect())"
    )
    tip = "document.getElementById('tip')"
    assert opened.evaluate(f"{tip}.hidden")
    opened.move(x, y)
    assert not opened.evaluate(f"{tip}.hidden")
    names = "JSON.parse(document.getElementById('map-data').textContent).names"
    hit = "[...document.querySelectorAll('[data-map]')].map(m => [...m.querySelectorAll"
    hit += "('use')].findIndex(u => u.classList.contains('hit')))"
    first, second = opened.evaluate(hit)
    assert first == second >= 0
    assert opened.evaluate(f"{tip}.textContent") == opened.evaluate(f"{names}[{first}]")
    box = opened.evaluate(f"JSON.parse(JSON.stringify({tip}.getBoundingClientRect()))")
    assert box["width"] >= 64
    assert box["left"] >= 0
    assert box["right"] <= 390
    opened.move(1, 1)
    opened.evaluate("window.scrollTo(0, 0)")
    assert opened.evaluate(f"{tip}.hidden")
