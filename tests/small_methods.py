"""Methods on an encoder of a few weights, in every form that keeps something else."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tiny import TinyEncoder

from simclr_jax import methods
from simclr_jax.heads import Projector

KEY = jax.random.key(0)
# What a method needs on batches of 8 and 16; one that is not listed has its defaults.
SMALL = {
    "moco": {
        "queue_size": 32,
        "bn_groups": 2,
        "momentum": 0.9,
        "projector": Projector(layers=2, hidden=6, dim=4, norm=False),
    },
    # With views that are nearly equal only the terms off the diagonal can fall.
    "barlow_twins": {"redundancy": 1.0},
}
# Methods whose options change what they keep are tested in each form.
FORMS = {
    "moco-end_to_end": {"mechanism": "end_to_end"},
    "moco-memory_bank": {"mechanism": "memory_bank"},
    "moco-symmetric": {"symmetric": True},
    "moco-spread": {"shuffle": "spread"},
    "simclr-memory": {"memory": 64, "momentum": 0.9},
    "simclr-decoupled": {"decoupled": "weighted"},
    "byol-random": {"target_init": "random"},
}


def views(count=8, seed=0):
    rng = np.random.default_rng(seed)
    pair = rng.random((2, count, 8, 8, 3), np.float32)
    return jnp.asarray(pair[0]), jnp.asarray(pair[1])


def build(case, encoder=None, **changes):
    name = case.partition("-")[0]
    options = SMALL.get(name, {}) | FORMS.get(case, {}) | changes
    options.setdefault("projector", Projector(layers=2, hidden=6, dim=4))
    return methods.make(name, encoder or TinyEncoder(), num_examples=64, **options)


def init(method):
    return jax.jit(method.init)(KEY, views()[0])


class Plain(nn.Module):
    """A network without BatchNorm, where micro-batches can't be told from the whole."""

    width: int = 8

    @nn.compact
    def __call__(self, x, train):
        return nn.tanh(nn.Dense(self.width)(x.reshape(len(x), -1)))
