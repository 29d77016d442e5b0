"""The plan that a terminal shows before a run begins."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs import common
from simclr_jax.experiment import build
from simclr_jax.stages import outline
from simclr_jax.stages.measurement import Measurement


def experiment(**changes):
    config = common.get_config()
    config.epochs, config.batch_size = 10, 32
    config.stages = ("pretrain", "knn", "report")
    config.update(changes)
    return SimpleNamespace(
        config=config,
        workdir=SimpleNamespace(path=Path("runs/a")),
        plan=lambda stage, images: build.plan(config, stage, images),
    )


def test_it_counts_what_is_left_to_do():
    rows = dict(outline.plan(experiment(), {"pretrain", "knn"}, 1000))
    assert rows["stages"] == "pretrain, knn, report"
    # An epoch is 31 whole batches of the 1,000 images.
    assert rows["pretrain"] == "1,000 images, 10 epochs, 310 steps of 32 images"
    assert rows["workdir"] == "runs/a"
    rows = dict(outline.plan(experiment(max_steps=31), {"pretrain"}, 1000))
    assert rows["pretrain"] == "1,000 images, 1 epoch, 31 steps of 32 images"
    rows = dict(outline.plan(experiment(), {"knn"}, 1000))
    assert rows["stages"] == "pretrain (done), knn, report"
    assert "pretrain" not in rows


def test_only_a_terminal_shows_it(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    for screen, shown in ((io.StringIO(), False), (Screen(), True)):
        monkeypatch.setattr(outline.sys, "stderr", screen)
        outline.show(experiment(), set(), 1000)  # nothing is left to do
        assert screen.getvalue() == ""
        outline.show(experiment(), {"pretrain"}, 1000)
        assert ("310 steps" in screen.getvalue()) == shown


@pytest.mark.parametrize(
    "stages, every, said",
    [
        (("pretrain", "knn", "probe", "report"), 0, "; knn and probe not counted"),
        (("pretrain", "knn"), 2, "; scores on the way and knn not counted"),
        (("supervised", "pretrain", "report"), 0, "; supervised not counted"),
        (("pretrain", "report", "export"), 0, ""),
    ],
)
def test_it_names_what_the_foretold_time_leaves_out(stages, every, said):
    config = experiment(stages=stages).config
    scores = Measurement(every, ("top1",), lambda state: {})
    assert outline.not_foretold(config, (scores,)) == said
