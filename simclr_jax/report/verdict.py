"""What the results say, in words: what the pretrained encoder is worth."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from simclr_jax.config.fields import Config
from simclr_jax.data.reader import Info
from simclr_jax.data.splits import examples
from simclr_jax.errors import DataError
from simclr_jax.report.table import percent, share_of_labels


class Gain(NamedTuple):
    """A result and its baseline, top-1 as fractions."""

    how: str  # what was done with the pretrained network
    baseline: str
    top1: float
    baseline_top1: float

    @property
    def points(self) -> float:
        return 100 * (self.top1 - self.baseline_top1)

    def clear(self, images: int | None) -> bool:
        """Whether the difference is more than two of its standard errors.

        Of scores on `images` test images, drawn independently: the standard error of
        a share p is sqrt(p (1 - p) / images). None: not known, so every one counts.
        """
        if not images:
            return self.points != 0
        shares = (self.top1, self.baseline_top1)
        variance = sum(p * (1 - p) for p in shares) / images
        return abs(self.top1 - self.baseline_top1) > 2 * variance**0.5


def gains(results: dict[str, Any]) -> Iterator[tuple[str, Gain]]:
    """The stages that compare the pretrained encoder with a baseline."""
    for stage, how, baseline in (
        ("probe", "a linear probe on", "the random encoder"),
        ("finetune", "fine-tuning on", "training from scratch"),
    ):
        if result := results.get(stage):
            pair = (result[name]["top1"] for name in ("pretrained", "random_init"))
            labels = share_of_labels(result["label_fraction"])
            yield stage, Gain(f"{how} {labels}", baseline, *pair)


def verdict(results: dict[str, Any], config: Config) -> str:
    """One sentence for each baseline: what pretraining gained over it, in points.

    The test images are a draw. A difference of less than two standard errors of that
    draw is called none. Other seeds would differ too; one run can't tell by how much.

    Returns:
      "" without such results, or if the classifiers were trained on the test images.
    """
    if config.data.test_split == config.data.train_split:
        return ""
    sentences = []
    for stage, gain in gains(results):
        images = _images(results[stage].get("data", {}), config)
        sentences.append(_sentence(gain, images))
    return "\n".join(sentences)


def _images(seen: dict[str, Any], config: Config) -> int | None:
    """How many images the test split has, which may be a part; None: not known.

    Args:
      seen: each whole split's fingerprint, as results.json has it.
    """
    counts = {split: found["images"] for split, found in seen.items()}
    try:
        return examples(
            Info(config.data.name, counts, 0, (), (None, None, 0)),
            config.data.test_split,
        )
    except DataError:  # an older version's results have no counts
        return None


def _sentence(gain: Gain, images: int | None) -> str:
    scores = f"{percent(gain.top1)} % against {percent(gain.baseline_top1)} %"
    with_it = f"with {gain.how}"
    if not gain.clear(images):
        return (
            f"Pretraining made no clear difference to {gain.baseline} {with_it}: "
            f"{scores}{f' of {images:,} test images' if images else ''}."
        )
    points = f"{abs(gain.points):.1f} points"
    change = f"gained {points} over" if gain.points > 0 else f"lost {points} against"
    return f"Pretraining {change} {gain.baseline} {with_it}: {scores}."
