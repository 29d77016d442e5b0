"""Scores that need no labels, taken while pretraining: RankMe, alignment, uniformity.

All are of images that pretraining sees, in inference mode. RankMe is of h. Alignment
and uniformity are of z, which the loss trains, on pairs of views as pretraining draws
them. The images and the draws are the same each time, so that the curves compare.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import jax

from simclr_jax import augment, data, devices, evaluation
from simclr_jax.config.fields import Config
from simclr_jax.experiment import build
from simclr_jax.experiment.experiment import Experiment

NAMES = ("rankme", "alignment", "uniformity")
_IMAGES, _PAIRS = 10_000, 2_000  # at most


def every_epochs(config: Config) -> int:
    """Epochs between two measurements; 0: never."""
    return config.scores_every_epochs or config.probe.every_epochs


def scores(experiment: Experiment) -> Callable[[Any, Any], dict[str, float]]:
    """`(params, model_state) -> scores`, by `NAMES`. It compiles once."""
    config = experiment.config
    size, key = config.augment.size, experiment.key("scores")

    @partial(jax.jit, out_shardings=devices.whole())
    def embed(params, model_state, key, batch):
        images = data.take(batch)["image"]
        pair = augment.two_views(key, images, views=experiment.views, size=size)
        return {
            name: experiment.method.embed(params, model_state, view)["z"]
            for name, view in zip(("first", "second"), pair, strict=True)
        }

    def measure(params: Any, model_state: Any) -> dict[str, float]:
        source, numbers = experiment.images.unlabelled, count()
        many, few = source.sample(_IMAGES), source.sample(_PAIRS)
        features, _ = experiment.features(params, model_state, many, ("h",))
        network = build.placed(config, (params, model_state))

        def views(batch: dict[str, Any]) -> dict[str, jax.Array]:
            number = jax.random.fold_in(key, next(numbers))
            return embed(*network, number, devices.place(batch))

        z = evaluation.extract(views, experiment.ordered(few))
        return {
            "rankme": evaluation.rankme(features["h"]),
            "alignment": evaluation.alignment(z["first"], z["second"]),
            "uniformity": evaluation.uniformity(z["first"]),
        }

    return measure
