"""That pretraining teaches the encoder, and that what is scored is what was taught."""

import jax
import learning_recipe
import numpy as np
import pytest
from tiny import ROOT, faint_squares, launch, write_npz
from tiny_runs import results

from simclr_jax import checkpoint
from simclr_jax.experiment import preflight
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import Workdir


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnt")
    npz = write_npz(folder / "faint.npz", 256, 200, faint_squares)
    recipe = f"--config={ROOT}/tests/learning_recipe.py"
    done = launch(recipe, f"--config.data.path={npz}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_the_pretrained_encoder_beats_the_random_one(learnt):
    """In top-1 of a probe on a quarter of the labels.

    Seeds 0 to 4 had it ahead by 0.30, 0.25, 0.24, 0.37 and 0.27 (random: 0.28 to 0.67).
    Half of the smallest is left to other machines; the same encoder twice makes 0.
    """
    probed = results(learnt)["probe"]
    assert probed["pretrained"]["top1"] > probed["random_init"]["top1"] + 0.12


def test_what_is_scored_as_pretrained_is_the_checkpoint(learnt):
    """Read here by the names in it; and training has moved it."""
    config = learning_recipe.get_config()
    config.data.path = str(learnt.parent / "faint.npz")
    info = preflight.check(config, learnt)
    run = Experiment(config, Workdir(learnt, config), info)
    step, params, state = run.pretrained
    stored = checkpoint.restore(learnt / "checkpoints", {"params": None})
    assert stored is not None
    assert step == stored[0] == 96
    for part in ("encoder", "projector"):
        jax.tree.map(
            np.testing.assert_array_equal, params[part], stored[1]["params"][part]
        )
    random, random_state = run.random_init
    for part in ("encoder", "projector"):
        for found, start in ((params, random), (state, random_state)):
            found, start = (x.get("batch_stats", x)[part] for x in (found, start))
            moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), found, start)
            assert all(jax.tree.leaves(moved))
