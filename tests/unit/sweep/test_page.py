"""A sweep's page: what it loads, what it shows."""

import subprocess
import sys
from xml.etree import ElementTree

from sweeps import by_row, toy
from tiny import ROOT

from simclr_jax.report import figures
from simclr_jax.sweep import page as sweep_page
from simclr_jax.sweep import table as sweep_table


def test_the_page_needs_neither_checkpoints_nor_tensorflow():
    """Reading results takes no second of imports that only a run needs."""
    heavy = ("orbax", "tensorflow", "simclr_jax.report.page")
    script = (
        "import sys, simclr_jax.sweep.page\n"
        f"print([x for x in {heavy} if x in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_picture_is_also_a_file_of_its_own():
    """Black on white and with a size: alone it has no page to take them from."""
    table = sweep_table.make(by_row([[50, 52], [51, 55]]), "row0", {})
    drawn = sweep_page.pictures(toy(), table, {})
    assert list(drawn) == ["differences"]
    root = ElementTree.fromstring(figures.standalone(drawn["differences"]))
    box = root.get("viewBox").split()
    assert [root.get("width"), root.get("height")] == box[2:]
    assert root.get("style") == "background: white; color: black"
    text = " ".join("".join(x.itertext()) for x in root.iter() if "text" in x.tag)
    assert "minus row0" in text
    assert "row1" in text
