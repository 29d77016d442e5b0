"""TensorBoard reads what is written, and no TensorFlow is loaded for it."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_jax.experiment.loggers.tensorboard import Writer

loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
ROOT = Path(__file__).parents[4]


def read(folder: Path) -> list[tuple[int, str, float]]:
    """`(step, name, value)` of every scalar in a folder, read by TensorBoard itself."""
    return [
        (event.step, value.tag, value.tensor.float_val[0])
        for path in sorted(folder.glob("events.out.tfevents.*"))
        for event in loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_tensorboard_reads_the_numbers_under_their_names(tmp_path):
    writer = Writer(tmp_path)
    assert list(tmp_path.iterdir()) == []
    writer.write("pretrain", 10, {"loss": 4.5, "epoch": 1, "variant": "pretrained"})
    writer.write("finetune/pretrained", 3, {"loss": float("nan")})
    writer.write("pretrain", 20, {"loss": 4.25})
    # A crash loses nothing: what was written is there before it is closed.
    found = read(tmp_path / "tensorboard/pretrain")
    assert found == [(10, "loss", 4.5), (10, "epoch", 1.0), (20, "loss", 4.25)]
    writer.close()
    ((step, name, value),) = read(tmp_path / "tensorboard/finetune/pretrained")
    assert (step, name) == (3, "loss")
    assert value != value
    # The run that continues adds a file; TensorBoard reads it after the first.
    writer = Writer(tmp_path)
    writer.write("pretrain", 30, {"loss": 4.0})
    writer.close()
    assert read(tmp_path / "tensorboard/pretrain")[-1] == (30, "loss", 4.0)


def test_it_loads_no_tensorflow(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from simclr_jax.experiment.loggers.tensorboard import Writer\n"
        f"writer = Writer(Path({str(tmp_path)!r}))\n"
        "writer.write('pretrain', 1, {'loss': 1.0})\n"
        "writer.close()\n"
        "sys.exit('tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ)
    assert done.returncode == 0
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_steps_that_are_repeated_are_shown_once(tmp_path):
    """As TensorBoard itself reads them: it drops what a restart takes back."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    writer = Writer(tmp_path)
    writer.cut("pretrain", 0)
    assert list(tmp_path.iterdir()) == []
    for step in (10, 20, 30):
        writer.write("pretrain", step, {"loss": 1.0})
    writer.close()
    writer = Writer(tmp_path)
    writer.cut("pretrain", 10)
    for step in (20, 30, 40):
        writer.write("pretrain", step, {"loss": 2.0})
    writer.close()

    def shown():
        found = accumulator.EventAccumulator(str(tmp_path / "tensorboard/pretrain"))
        return [(x.step, x.value) for x in found.Reload().Scalars("loss")]

    assert shown() == [(10, 1.0), (20, 2.0), (30, 2.0), (40, 2.0)]
    writer = Writer(tmp_path)
    writer.cut("pretrain", -1)  # begins anew
    writer.write("pretrain", 10, {"loss": 3.0})
    writer.close()
    assert shown() == [(10, 3.0)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("act", ["write", "cut", "close"])
def test_a_full_disk_is_said_with_the_file(tmp_path, act):
    writer = Writer(tmp_path)
    writer.write("pretrain", 10, {"loss": 1.0})
    (file,) = (tmp_path / "tensorboard/pretrain").iterdir()
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), writer._writers["pretrain"][1]._writer.fileno())
    do = {
        "write": lambda: writer.write("pretrain", 20, {"loss": 1.0}),
        "cut": lambda: writer.cut("pretrain", 10),
        "close": writer.close,
    }
    if act == "close":  # something is left to write
        writer._writers["pretrain"][1].write(b"x")
    with pytest.raises(OSError, match=rf"No space .*'{file}'"):
        do[act]()
    with contextlib.suppress(OSError):
        writer.close()
