"""What benchmarks/results holds is what it is said to come to."""

import re
import shutil

import pytest
from tiny import ROOT

import launch as launcher

RESULTS = ROOT / "benchmarks/results"


@pytest.mark.parametrize(
    "variant, heading",
    [
        ("cpu", "## The small-batch study"),
        ("beyond_cpu", "## Other methods at a small batch"),
    ],
)
def test_a_study_is_made_of_its_points(variant, heading, tmp_path, capsys):
    """Its recipe still is the one that ran; its figures are those of its runs."""
    study = RESULTS / f"small_batch_{variant}"
    copy = tmp_path / study.name
    made = shutil.ignore_patterns("table.*", "report.html", "*.svg")
    shutil.copytree(study, copy, ignore=made)
    recipe = f"--config={ROOT}/configs/small_batch.py:{variant}"
    flags = [recipe, f"--workdir={copy}", "--sweep", "--table"]
    assert launcher.main(["launch.py", *flags]) == 0
    assert "Not finished" not in capsys.readouterr().out
    for name in ("table.md", "table.csv"):
        assert (copy / name).read_text() == (study / name).read_text()
    # The table that people read has the same numbers, rounded.
    page = (RESULTS / "README.md").read_text()
    section = page[page.index(heading) :].partition("\n## ")[0]
    shown = re.findall(
        r"^\| [^|]+ \| ([\d.]+) \+- ([\d.]+) \| ([-+][\d.]+)?", section, re.M
    )
    rows = (copy / "table.csv").read_text().splitlines()[1:]
    assert len(shown) == len(rows) > 6
    for (mean, sd, difference), line in zip(shown, rows, strict=True):
        values = line.split(",")[2:5]
        for text, value in zip((mean, sd, difference), values, strict=True):
            assert bool(text) == bool(value)
            assert not text or abs(float(text) - float(value)) < 0.0501


def test_no_record_names_a_folder_of_its_machine():
    """Commands of records shall be those that a reader can give."""
    texts = [x for x in RESULTS.rglob("*") if x.suffix in (".json", ".jsonl", ".md")]
    assert len(texts) > 50
    named = [x for x in texts if re.search(r"/(tmp|root|home|work)/", x.read_text())]
    assert not named
