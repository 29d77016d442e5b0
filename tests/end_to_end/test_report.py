"""The report: its table, its figures, its images, and the page in a browser."""

import json
import re
import shutil

import browser
import numpy as np
import pytest
from PIL import Image
from tiny import launch, recipe, squares, write_npz

from configs import common
from simclr_jax.report import figures, gallery, pictures
from simclr_jax.report import table as report

RESULTS = {
    "pretrain": {
        "loss": 4.25,
        "epochs": 3.0,
        "seconds": 61.4,
        "images_per_second": 99.6,
        "step": 7,
    },
    "finetune": {
        "pretrained": {"top1": 0.8768, "top3": 0.99},
        "random_init": {"top1": 0.5, "top3": 0.75},
        "label_fraction": 0.1,
        "step": 7,
    },
    "probe": {
        "pretrained": {"top1": 0.7, "top3": 0.9},
        "random_init": {"top1": 0.3, "top3": 0.6},
        "layers": {"h": 0.7, "head_1": 0.65, "z": 0.6},
        "label_fraction": 1.0,
        "step": 7,
    },
    "knn": {"top1": 0.625, "step": 7},
    "supervised": {"top1": 0.95, "top3": 1.0, "step": 0},
}


# The table


def test_the_table_is_aligned_in_percent_with_baselines_under_their_results():
    config = common.get_config()
    config.published.source = "a paper"
    config.published.rows = (("finetune pretrained", 88.0, None), ("knn", 60.0, 80.0))
    assert report.table(RESULTS, config).splitlines() == [
        f"{'test accuracy, %':32}  top-1  top-3    published",
        "-" * (32 + 7 + 7 + 13),
        "fine-tuned on 10 % of the labels   87.7   99.0         88.0",
        "  the same from scratch            50.0   75.0",
        "linear probe, all labels           70.0   90.0",
        "  on head_1 instead of h           65.0",
        "  on z instead of h                60.0",
        "  random encoder                   30.0   60.0",
        "kNN, k 200                         62.5         60.0 / 80.0",
        "supervised, all labels             95.0  100.0",
        "(a paper)",
        "pretraining: 3 epochs in 61 s, 100 images/s, loss 4.2500",
    ]


def test_every_row_says_where_its_number_is():
    for row in report.rows(RESULTS, common.get_config()):
        value = RESULTS
        for name in row.where.split("."):
            value = value[name]
        assert row.top1 == (value["top1"] if isinstance(value, dict) else value)


# Figures


def test_a_single_record_shows_as_a_point():
    one = figures.curve("a", "loss", [(1.0, 2.0)])
    two = figures.curve("a", "loss", [(1.0, 2.0), (2.0, 2.0)])
    colour = figures.COLOURS[0]
    assert re.search(f"<use[^>]*{colour}", one)
    assert not re.search(f"<use[^>]*{colour}", two)


def test_figures_take_the_colour_of_the_page_and_ids_of_their_own():
    points = [(0.0, 1.0), (1.0, 0.5)]
    svg = figures.curve("first", "loss", points)
    assert "loss: 0.5" in svg
    assert "currentColor" in svg
    assert figures._TEXT not in svg
    ids = re.findall(r'id="([^"]+)"', svg)
    assert ids
    assert all(one.startswith("first-") for one in ids)
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', svg):
        assert target in ids
    assert re.match(r"<svg(?![^>]* (width|height)=)", svg)


def test_the_accuracy_figure_names_every_line_with_its_last_value():
    svg = figures.accuracies("a", {"kNN": [(1, 0.1), (2, 0.25)]}, {"supervised": 0.9})
    assert "kNN: 25.0" in svg
    assert "supervised: 90.0" in svg


def test_the_map_has_a_mark_for_every_point_in_order():
    points = np.array([[0.0, 3.0], [1.0, 1.0], [5.0, 2.0]])
    svg = figures.scatter("m", points, ["#ff0000", "#00ff00", "#0000ff"])
    group = svg[svg.index('id="m-points"') :]
    marks = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*(#\w{6})', group)
    x, y = np.array([(float(a), float(b)) for a, b, _ in marks]).T
    assert [colour for *_, colour in marks] == ["#ff0000", "#00ff00", "#0000ff"]
    assert list(np.argsort(x)) == [0, 1, 2]
    assert list(np.argsort(-y)) == [1, 2, 0]  # an SVG's y grows downwards


# Images


def test_nearest_are_those_of_the_largest_cosine():
    rng = np.random.default_rng(0)
    queries, bank = rng.normal(size=(7, 6)), rng.normal(size=(30, 6))
    bank *= rng.uniform(0.1, 10, (30, 1))  # lengths must not matter
    similarities, found = gallery.nearest(queries, bank)
    for i, query in enumerate(queries):
        norms = np.linalg.norm(bank, axis=1) * np.linalg.norm(query)
        cosines = bank @ query / norms
        np.testing.assert_array_equal(found[i], np.argsort(-cosines)[:5])
        np.testing.assert_allclose(similarities[i], np.sort(cosines)[:-6:-1], 1e-5)
    assert gallery.nearest(queries, bank[:3])[1].shape == (7, 3)


def test_no_image_is_its_own_neighbour():
    """Where one split is both: the second nearest comes first."""
    points = np.random.default_rng(0).normal(size=(12, 6))
    _, with_self = gallery.nearest(points, points)
    np.testing.assert_array_equal(with_self[:, 0], np.arange(12))
    _, found = gallery.nearest(points, points, np.eye(12, dtype=bool))
    np.testing.assert_array_equal(found[:, :4], with_self[:, 1:])
    assert (
        gallery.nearest(points, points[:3], np.eye(12, 3, dtype=bool))[1].shape[1] == 2
    )


def test_the_map_keeps_groups_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 12)
    points = gallery.spread(np.eye(3)[groups] + 0.1 * rng.normal(size=(36, 3)), seed=1)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(1)] == groups).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sprite_has_image_i_in_row_and_column_of_i(channels, tmp_path):
    rng = np.random.default_rng(0)
    # Plain tiles of JPEG's 8 pixels: colours change little, places not at all.
    tiles = rng.integers(0, 256, (7, 1, 1, channels), np.uint8)
    tiles = tiles.repeat(8, axis=1).repeat(16, axis=2)
    uri, columns = pictures.sprite(tiles)
    import base64
    import io

    file = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    sheet = np.asarray(Image.open(file)).reshape(24, 48, channels)
    assert columns == 3
    for i, tile in enumerate(tiles):
        y, x = 8 * (i // 3), 16 * (i % 3)
        shown = sheet[y : y + 8, x : x + 16]
        # Colour is stored at half the resolution: across an edge it may smear.
        np.testing.assert_allclose(shown[2:-2, 4:-4], tile[2:-2, 4:-4], atol=12)


def test_large_images_shrink_and_small_ones_do_not():
    assert pictures.thumbnail(np.zeros((224, 112, 3), np.uint8)).shape == (64, 32, 3)
    assert pictures.thumbnail(np.zeros((128, 128, 1), np.uint8)).shape == (64, 64, 1)
    small = squares(1, 0)[0][0]
    assert pictures.thumbnail(small) is small


# The page


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


@pytest.fixture(scope="module")
def workdir(npz, tmp_path_factory):
    """A whole run, and what it printed."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    done = launch(*recipe(npz), f"--workdir={path}")
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_the_terminal_ends_with_the_table_and_the_report(workdir):
    path, printed = workdir
    lines = printed.splitlines()
    assert lines[-1] == f"report: {path}/report.html"
    assert any(line.startswith("test accuracy, %") for line in lines[-14:])


def test_images_are_embedded_once_for_every_step(npz, workdir, tmp_path):
    """The second report takes what the first found, unless the encoder has moved."""
    path = tmp_path / "copy"
    shutil.copytree(workdir[0], path)
    kept = path / "stages/report/gallery.npz"
    arrays = dict(np.load(kept))
    arrays["similarities"] = np.full_like(arrays["similarities"], 0.123)
    again = [*recipe(npz), f"--workdir={path}", "--config.stages=('report',)"]
    for step, expected in ((arrays["step"], True), (arrays["step"] - 1, False)):
        np.savez(kept, **arrays | {"step": step})
        assert launch(*again).returncode == 0
        assert ("cosine 0.123" in (path / "report.html").read_text()) == expected
    kept.write_bytes(kept.read_bytes()[:1000])
    assert launch(*again).returncode == 0
    assert (np.load(kept)["similarities"] != np.float32(0.123)).all()


def test_any_stages_make_a_page(npz, tmp_path):
    """Without labels and few images: no marks, no colours; no encoder: no images."""
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
    assert "contrastive loss" in page  # a single record

    flags = [*recipe(npz), "--config.max_steps=1", f"--workdir={tmp_path}/labelled"]
    done = launch(*flags, "--config.stages=('supervised','report')")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "labelled/report.html").read_text()
    assert "supervised, all labels" in page
    assert "Nearest neighbours" not in page
    assert "Views" not in page


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
