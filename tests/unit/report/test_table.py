"""The results table: its text, and where each of its numbers comes from."""

import pytest

from configs import common
from simclr_jax.config.validate import validate
from simclr_jax.errors import RequestError
from simclr_jax.report import table

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


def test_the_table_is_aligned_in_percent_with_baselines_under_their_results():
    config = common.get_config()
    config.published.source = "a paper"
    config.published.rows = (("finetune pretrained", 88.0, None), ("knn", 60.0, 80.0))
    assert table.table(RESULTS, config).splitlines() == [
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


def test_the_numbers_of_the_rows_by_their_places():
    numbers = table.numbers(RESULTS, common.get_config())
    assert numbers["finetune/pretrained/top1"] == 0.8768
    assert numbers["probe/layers/head_1/top1"] == 0.65
    assert (numbers["knn/top1"], numbers["supervised/top3"]) == (0.625, 1.0)
    assert "knn/top3" not in numbers
    assert len(numbers) == 4 + 4 + 2 + 1 + 2


def test_top5_has_a_column_where_there_are_more_than_five_classes():
    config = common.get_config()
    config.published.source = "a paper"
    config.published.rows = (
        ("finetune pretrained", 68.8, None, 89.0),
        ("finetune random_init", None, 56.4, None),
        ("supervised", 76.5, None, None),
        ("knn", None, None, None),
    )
    results = {
        "finetune": {
            "pretrained": {"top1": 0.687, "top3": 0.85, "top5": 0.8912},
            "random_init": {"top1": 0.5, "top3": 0.75, "top5": 1.0},
            "label_fraction": 0.1,
            "step": 7,
        },
        # A result that is older than top-5.
        "supervised": {"top1": 0.75, "top3": 0.875, "step": 0},
        "knn": {"top1": 0.625, "step": 7},
    }
    assert table.table(results, config).splitlines() == [
        f"{'test accuracy, %':32}  top-1  top-3  top-5        published",
        "-" * (32 + 7 + 7 + 7 + 17),
        "fine-tuned on 10 % of the labels   68.7   85.0   89.1  68.8 / - / 89.0",
        "  the same from scratch            50.0   75.0  100.0         - / 56.4",
        "kNN, k 200                         62.5",
        "supervised, all labels             75.0   87.5                    76.5",
        "(a paper)",
    ]
    validate(config)


def test_scores_of_images_seen_in_training_are_called_that():
    config = common.get_config()
    results = {"knn": {"top1": 0.5, "step": 1, "max_steps": 0}}
    assert "have seen them" not in table.table(results, config)
    config.data.test_split = config.data.train_split
    assert "The test images are the training images" in table.table(results, config)
    assert "training images" not in table.table({}, config)


def test_published_rows_have_three_or_four_entries():
    config = common.get_config()
    for wrong in (("knn", 60.0), ("knn", 60.0, 80.0, 90.0, 95.0), ("knn", 60.0, "80")):
        config.published.rows = (wrong,)
        with pytest.raises(RequestError, match=r"top-1, top-3\[, top-5\]"):
            validate(config)


SECOND = {"pretrained": {"top1": 0.4, "top3": 0.8}, "random_init": {"top1": 0.25}}


def test_a_published_figure_stands_next_to_the_probe_of_its_kind():
    config = common.get_config()
    config.published.rows = (("probe second pretrained", 71.3, 93.6),)
    probed = {"probe": RESULTS["probe"] | {"second": SECOND}}
    assert table.table(probed, config).splitlines()[2:8] == [
        "linear probe, all labels                   70.0   90.0",
        "  on head_1 instead of h                   65.0",
        "  on z instead of h                        60.0",
        "  random encoder                           30.0   60.0",
        "linear probe of raw features, all labels   40.0   80.0  71.3 / 93.6",
        "  random encoder                           25.0",
    ]
    config.probe.second.standardize = True
    assert "second linear probe, all labels" in table.table(probed, config)
    config.probe.standardize = False
    lines = table.table(probed, config).splitlines()
    assert lines[2].startswith("linear probe of raw features, all labels ")
    assert lines[6].startswith("linear probe, all labels ")


def test_every_row_says_where_its_number_is():
    results = RESULTS | {"probe": RESULTS["probe"] | {"second": SECOND}}
    for row in table.rows(results, common.get_config()):
        value = results
        for name in row.where.split("."):
            value = value[name]
        assert row.top1 == (value["top1"] if isinstance(value, dict) else value)
