"""SimCLR from this library's parts, without its machinery.

python examples/simclr_in_60_lines.py images.npz  # train_images, uint8 [N, 32, 32, 3]
python examples/simclr_in_60_lines.py             # random images, to see it run
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import simclr_jax
from simclr_jax.augment import View, to_float, two_views
from simclr_jax.encoders import ResNet
from simclr_jax.heads import Projector
from simclr_jax.losses import nt_xent


class SimCLR(nn.Module):
    @nn.compact
    def __call__(self, images, train):  # [B, s, s, C] in [0, 1] -> [B, F], [B, D]
        h = ResNet(depth=18, width=0.25, stem="cifar", name="encoder")(images, train)
        return h, Projector(dim=64, name="projector")(h, train)


def main(path=None, steps=200, batch_size=128, size=32):
    simclr_jax.set_cpu_flags()  # before jax uses a device; no change on a GPU
    draw, key = np.random.default_rng(0), jax.random.key(0)
    noise = draw.integers(0, 256, (1024, size, size, 3), np.uint8)
    images = np.load(path)["train_images"] if path else noise
    model, tx = SimCLR(), optax.adamw(1e-3)
    variables = jax.jit(lambda x: model.init(key, x, True))(to_float(images[:2]))

    def loss_fn(params, stats, views):
        variables = {"params": params, "batch_stats": stats}
        both = jnp.concatenate(views)  # one batch, one BatchNorm
        (_, z), new = model.apply(variables, both, True, mutable=["batch_stats"])
        return nt_xent(*jnp.split(z, 2)).mean(), new["batch_stats"]

    @jax.jit
    def train_step(params, stats, opt_state, key, images):
        views = two_views(key, images, views=(View(), View()), size=size)
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, stats), grads = grad_fn(params, stats, views)
        updates, opt_state = tx.update(grads, opt_state, params)
        return loss, (optax.apply_updates(params, updates), stats, opt_state)

    state = variables["params"], variables["batch_stats"], tx.init(variables["params"])
    for i in range(steps):
        batch = images[draw.choice(len(images), batch_size, replace=False)]
        loss, state = train_step(*state, jax.random.fold_in(key, i), batch)
        print(f"step {i + 1}  loss {loss:.4f}", flush=True)
    return {"params": state[0], "batch_stats": state[1]}  # for SimCLR().apply


if __name__ == "__main__":
    main(*sys.argv[1:2])
