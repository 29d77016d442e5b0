"""What benchmarks/results holds is what it is said to come to."""

import re
import shutil

from tiny import ROOT

import launch as launcher

STUDY = ROOT / "benchmarks/results/small_batch_cpu"


def test_the_small_batch_study_is_made_of_its_points(tmp_path, capsys):
    """Its recipe still is the one that ran; its figures are those of its 27 runs."""
    copy = tmp_path / "small_batch_cpu"
    points = shutil.ignore_patterns("table.*", "report.html", "*.svg")
    shutil.copytree(STUDY, copy, ignore=points)
    recipe = f"--config={ROOT}/configs/small_batch.py:cpu"
    flags = [recipe, f"--workdir={copy}", "--sweep", "--table"]
    assert launcher.main(["launch.py", *flags]) == 0
    assert "Not finished" not in capsys.readouterr().out
    for name in ("table.md", "table.csv"):
        assert (copy / name).read_text() == (STUDY / name).read_text()
    # The table that people read has the same numbers, rounded.
    page = (ROOT / "benchmarks/results/README.md").read_text()
    page = page[page.index("## The small-batch study") :]
    shown = re.findall(
        r"^\| [^|]+ \| ([\d.]+) \+- ([\d.]+) \| ([-+][\d.]+)?", page, re.M
    )
    made = (copy / "table.csv").read_text().splitlines()[1:]
    assert len(shown) == len(made) == 9
    for (mean, sd, difference), line in zip(shown, made, strict=True):
        values = line.split(",")[2:5]
        for text, value in zip((mean, sd, difference), values, strict=True):
            assert bool(text) == bool(value)
            assert not text or abs(float(text) - float(value)) < 0.0501
