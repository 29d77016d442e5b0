"""A run's page: what it shows of results.json and metrics.jsonl."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs import common
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.report import images, page


def written(path, results, metrics=(), changes=()):
    """The page of a run that left these results and metrics, and no checkpoint."""
    config = common.get_config()
    config.update_from_flattened_dict(dict(changes))
    if results:
        about = {"config": config.to_dict(), "versions": {"jax": "9.8.7"}, "seed": 3}
        (path / "results.json").write_text(json.dumps(results | about))
    (path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in metrics))
    train = SimpleNamespace(num_examples=1234)
    experiment = SimpleNamespace(
        config=config,
        workdir=Workdir(path, config),
        images=SimpleNamespace(unlabelled=train),
    )
    assert page.write(experiment) == str(path / "report.html")
    return (path / "report.html").read_text()


def numbers(text):
    """Every number with a place in results.json."""
    return dict(re.findall(r'data-result="([^"]+)">([^<]*)<', text))


def headings(text):
    return re.findall(r"<h2>([^<]+)</h2>", text)


def test_a_run_without_pretraining_shows_its_numbers_and_no_images(tmp_path):
    results = {
        "supervised": {"top1": 0.954, "top3": 1.0, "step": 0},
        "knn": {"top1": 0.625, "step": 7},
    }
    line = {"stage": "supervised", "variant": "", "step": 8, "seconds": 61.4}
    text = written(tmp_path, results, [line])
    assert headings(text) == ["Results", "What was run"]
    assert numbers(text) == {
        "supervised.top1": "95.4",
        "supervised.top3": "100.0",
        "knn.top1": "62.5",
    }
    assert "supervised 61 s" in text
    assert "jax 9.8.7" in text
    assert "optimizer.lr = 0.001" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_on_a_full_disk_the_old_page_stays(tmp_path):
    written(tmp_path, {})
    before = (tmp_path / "report.html").read_text()
    (tmp_path / ".report.html.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"No space .*'{tmp_path}/report.html'"):
        written(tmp_path, {"knn": {"top1": 0.5, "step": 1}})
    assert (tmp_path / "report.html").read_text() == before


def test_a_line_without_an_epoch_is_no_point_of_a_curve():
    record = {"stage": "pretrain", "variant": "", "loss": 1.5}
    lines = [record | {"step": step, "epoch": step / 2.0} for step in (2, 4)]
    assert page._curves({}, [record | {"step": 3}, *lines]) == page._curves({}, lines)


def test_nothing_finished_is_said(tmp_path):
    text = written(tmp_path, {})
    assert headings(text) == ["What was run"]
    assert "No stage has finished yet." in text


def test_published_figures_stand_in_their_row(tmp_path):
    changes = {
        "published.source": "A <paper>",
        "published.rows": (("knn", 60.0, 80.0),),
    }
    text = written(tmp_path, {"knn": {"top1": 0.625, "step": 7}}, changes=changes)
    assert "Published, not ours: A &lt;paper&gt;." in text
    row = text[text.index("kNN</abbr>, k 200</th>") :]
    assert "<td>60.0 / 80.0</td>" in row[: row.index("</tr>")]


@pytest.mark.parametrize("loss, shown", [(2.5, True), (None, False)])
def test_curves_show_what_was_recorded_and_finite(tmp_path, monkeypatch, loss, shown):
    monkeypatch.setattr(images, "views", lambda _: "<section>the views</section>")
    about = {"stage": "pretrain", "variant": "", "step": 1, "epoch": 1.0}
    line = about | {"loss": loss, "lr": 0.125, "probe_top1": 0.251}
    line |= {"rankme": 17.25, "alignment": 0.5, "uniformity": -2.5}
    result = {"epochs": 2.0, "seconds": 9.0, "images_per_second": None, "loss": loss}
    results = {
        "pretrain": result | {"step": 1},
        "probe": {
            "pretrained": {"top1": 0.5},
            "random_init": {"top1": 0.333},
            "layers": {"h": 0.5},
            "label_fraction": 1.0,
            "step": 1,
        },
    }
    text = written(tmp_path, results, [line, line | {"epoch": 2.0}])
    assert headings(text) == [
        *("Results", "Use the encoder", "Pretraining", "What was run")
    ]
    code = text[text.index("<pre>import simclr_jax") :]
    assert f"simclr_jax.load(&#x27;{tmp_path}&#x27;)" in code
    assert f"load(&#x27;{tmp_path}&#x27;, stage=&#x27;probe&#x27;)" in code
    assert "A falling RankMe" in re.sub("<.*?>", "", text)
    assert ("contrastive loss: 2.5" in text) == shown
    assert "learning rate: 0.125" in text
    assert "RankMe of h: 17.25" in text
    assert "alignment of z: 0.5" in text
    assert "uniformity of z: -2.5" in text
    assert "probe: 25.1" in text
    assert "probe, random encoder: 33.3" in text
    assert "kNN: " not in text
    assert text.index("learning rate") < text.index("the views")
    assert "without labels on 1,234 images" in text


def test_a_single_value_is_no_curve(tmp_path, monkeypatch):
    """It was a dot on an axis of its own. The others are drawn."""
    monkeypatch.setattr(images, "views", lambda _: "")
    line = {"stage": "pretrain", "variant": "", "step": 1, "epoch": 1.0, "loss": 2.5}
    line |= {"knn_top1": 0.5, "rankme": 17.25}
    text = written(tmp_path, {}, [line])
    assert "Pretraining" not in headings(text)
    assert "<svg" not in text
    text = written(tmp_path, {}, [line, line | {"epoch": 2.0, "rankme": None}])
    assert "contrastive loss: 2.5" in text
    assert "kNN: 50.0" in text
    assert "RankMe of h" not in text


def test_the_page_begins_with_the_verdict(tmp_path):
    scores = {"pretrained": {"top1": 0.75}, "random_init": {"top1": 0.5}}
    about = {"layers": {}, "label_fraction": 1.0, "step": 0}
    text = written(tmp_path, {"probe": scores | about})
    words = (
        "<p>Pretraining gained 25.0 points over the random encoder with a linear "
        "probe on all labels: 75.0 % against 50.0 %.</p>"
    )
    assert text.index(words) < text.index("<h2>Results")
    # Nothing to compare, nothing said.
    text = written(tmp_path, {"knn": {"top1": 0.5, "step": 1}})
    assert '<div class="lead"' not in text


def test_top5_has_a_column_of_its_own(tmp_path):
    scores = {"top1": 0.5, "top3": 0.75, "top5": 0.954, "step": 0}
    text = written(tmp_path, {"supervised": scores})
    assert numbers(text) == {
        "supervised.top1": "50.0",
        "supervised.top3": "75.0",
        "supervised.top5": "95.4",
    }
    columns = re.findall(r'<th scope="col">([^<]*)<', text)
    assert columns == ["test accuracy, %", "", "top-1", "top-3", "top-5"]


@pytest.mark.parametrize("finished", [True, False])
def test_fine_tuning_over_the_epochs_has_a_figure_with_its_baselines(
    tmp_path, monkeypatch, finished
):
    monkeypatch.setattr(images, "views", lambda _: "")
    about = {"stage": "pretrain", "variant": ""}
    lines = [
        about | {"step": 10 * epoch, "epoch": float(epoch), "finetune_top1": top1}
        for epoch, top1 in ((1, 0.25), (2, None), (3, 0.512))  # null: it diverged
    ]
    tuned = {
        "pretrained": {"top1": 0.512},
        "random_init": {"top1": 0.333},
        "label_fraction": 0.1,
        "step": 30,
    }
    results = {"finetune": tuned, "supervised": {"top1": 0.876, "step": 0}}
    text = written(tmp_path, results if finished else {}, lines)
    assert "fine-tuned: 51.2" in text
    assert ("the same from scratch: 33.3" in text) == finished
    assert ("supervised, all labels: 87.6" in text) == finished
    assert "<figcaption>Each point is a fine-tuning" in text
    assert "kNN: " not in text
    # No figure without two points.
    assert "fine-tuned: " not in written(tmp_path, results, lines[1:])


def test_how_many_files_were_left_out_as_damaged(tmp_path):
    results = {"knn": {"top1": 0.625, "step": 7}}
    assert "as damaged" not in written(tmp_path, results)
    (tmp_path / "damaged.txt").write_text("/photos/1.jpg\tcut\n/photos/2.jpg\tcut\n")
    text = written(tmp_path, results).partition("What was run")[2]
    assert "<p>2 files were left out as damaged; see damaged.txt" in text


def test_a_run_with_an_encoder_shows_its_images(run):
    text = Path(page.write(run)).read_text()
    assert headings(text) == [
        "Map of the images",
        "Search by image",
        "Nearest neighbours",
        "Near-duplicates and outliers",
        "What was run",
    ]
    assert text.count("url(data:image/jpeg") == 1  # the images of the map, once
