"""What may be kept, and what ends a training."""

import ml_dtypes
import numpy as np
import pytest

from simclr_jax.errors import DivergedError
from simclr_jax.training.finite import require_finite


def items():
    half = np.ones(4, ml_dtypes.bfloat16)
    return {
        "params": {"a": np.ones(3, np.float32), "b": half},
        "model_state": {
            "batch_stats": {"mean": np.zeros(2, np.float32)},
            "target": {"params": {"a": np.ones(3, np.float32)}},
            "largest": np.array(-np.inf),  # a method's own
        },
        "opt_state": ({"nu": np.ones(3, np.float32)}, np.array(7, np.int32)),
        "counters": {"step": np.array(5)},
    }


def test_a_finite_state_may_be_kept():
    require_finite(items())


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "name, leaf",
    [
        ("params", lambda x: x["params"]["b"]),
        ("batch_stats", lambda x: x["model_state"]["batch_stats"]["mean"]),
        ("target", lambda x: x["model_state"]["target"]["params"]["a"]),
        ("opt_state", lambda x: x["opt_state"][0]["nu"]),
    ],
)
def test_one_number_ends_the_training(bad, name, leaf):
    found = items()
    leaf(found)[1] = bad
    with pytest.raises(DivergedError, match=f"{name} not finite at step 5"):
        require_finite(found)
