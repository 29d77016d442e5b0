"""Faults on purpose: what `make faults` does to runs, and what must come of it.

    lab.py          a run of seconds, ways to start and to end it, what counts as wrong
    forked.py       launch.py in a process that has imported the packages already
    interrupted.py  stops, kills, signals, full disks, several processes
    soak.py         a long run
    damaged.py      checkpoints: flipped bits, cut files, strangers', deleted ones
    numbers.py      numbers that are none: in fields, pixels and weights
    images.py archives.py   image files; arrays and .npz files
    requests.py     fields with values that nobody expects

Each kind is a `Kind` in `KINDS` of its file. The runs are of tests/tiny_recipe.py: the
recipes' own ResNet and every stage, on 64 images of 16 x 16.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in (ROOT, ROOT / "tests"):  # tiny.py, tiny_runs.py and others are used
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
