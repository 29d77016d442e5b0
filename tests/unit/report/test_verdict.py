"""What pretraining gained, in words: over what, how much, and whether it is clear."""

import pytest

from configs import common
from simclr_jax.report.verdict import verdict


def result(pretrained, random_init, images=None, fraction=0.1):
    entry = {
        "pretrained": {"top1": pretrained},
        "random_init": {"top1": random_init},
        "label_fraction": fraction,
    }
    if images:
        entry["data"] = {"test": {"images": images}, "train": {"images": 7}}
    return entry


def test_a_gain_and_a_loss_are_in_points():
    results = {
        "probe": result(0.919, 0.506, fraction=1.0),
        "finetune": result(0.6, 0.7004),
        "knn": {"top1": 0.5},
    }
    assert verdict(results, common.get_config()).splitlines() == [
        "Pretraining gained 41.3 points over the random encoder with a linear probe on "
        "all labels: 91.9 % against 50.6 %.",
        "Pretraining lost 10.0 points against training from scratch with fine-tuning "
        "on 10 % of the labels: 60.0 % against 70.0 %.",
    ]


@pytest.mark.parametrize(
    "pretrained, images, clear",
    [
        # Two standard errors: at 54 and at 55 % of 1,000 images 0.0446, at 80 % of 10
        # images 2 x sqrt((0.16 + 0.25) / 10) = 0.40.
        (0.54, 1000, False),
        (0.55, 1000, True),
        (0.8, 10, False),
        (0.51, None, True),  # an older result does not say of how many
    ],
)
def test_a_difference_within_two_standard_errors_is_called_none(
    pretrained, images, clear
):
    text = verdict({"probe": result(pretrained, 0.5, images)}, common.get_config())
    assert ("gained" in text) == clear
    if not clear:
        assert text.startswith("Pretraining made no clear difference to the random ")
        assert text.endswith(f" % against 50.0 % of {images:,} test images.")


def test_nothing_is_said_where_nothing_is_compared():
    config = common.get_config()
    assert verdict({"knn": {"top1": 0.5}, "pretrain": {}}, config) == ""
    config.data.test_split = config.data.train_split
    assert verdict({"probe": result(0.9, 0.5)}, config) == ""


def test_equal_scores_of_an_unknown_number_of_images_are_no_difference():
    """As in the results of an older version."""
    (sentence,) = verdict(
        {"probe": result(0.183, 0.183)}, common.get_config()
    ).splitlines()
    assert sentence == (
        "Pretraining made no clear difference to the random encoder with a linear "
        "probe on 10 % of the labels: 18.3 % against 18.3 %."
    )


@pytest.mark.parametrize("images, clear", [(600, False), (6000, True)])
def test_a_part_of_a_split_counts_with_its_own_size(images, clear):
    """A tenth of 600 images is 60: two standard errors of 50 % are 18 points."""
    entry = result(0.55, 0.45)
    entry["data"] = {"train": {"images": images}}
    config = common.get_config()
    config.data.train_split, config.data.test_split = "train[:90%]", "train[90%:]"
    sentence = verdict({"probe": entry}, config)
    assert sentence.startswith("Pretraining gained 10.0") is clear
    if not clear:
        assert sentence.endswith("55.0 % against 45.0 % of 60 test images.")
