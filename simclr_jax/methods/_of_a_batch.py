"""What methods share whose loss is one value of two batches of embeddings."""

from collections.abc import Callable

import jax

from simclr_jax.methods import Method, embedding_metrics
from simclr_jax.microbatches import encode_each
from simclr_jax.networks import Network


def of_a_batch(
    network: Network,
    objective: Callable[[jax.Array, jax.Array], jax.Array],
    microbatch: int | None,
) -> Method:
    """A method without target, queue or predictor.

    Each view is normalised by itself. The embeddings of all micro-batches meet in one
    loss, so its statistics are those of the whole batch; only BatchNorm's are a
    micro-batch's. On several devices both are global.

    Args:
      network: encoder and projector.
      objective: `(z_a [B, D], z_b [B, D]) -> []`.
      microbatch: see `simclr_jax.methods.make`.
    """

    def init(key, images):
        params, batch_stats = network.init(key, images)
        return params, {"batch_stats": batch_stats}

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # it draws nothing and remembers no image

        def apply(batch_stats, images):
            return network.train(params, batch_stats, images)

        ((h, z_a), (_, z_b)), batch_stats = encode_each(
            apply, model_state["batch_stats"], views, microbatch=microbatch
        )
        metrics = embedding_metrics(z_a, z_b)
        metrics |= {"h": jax.lax.stop_gradient(h)} if features else {}
        new_state = model_state | {"batch_stats": batch_stats}
        return objective(z_a, z_b), (new_state, metrics)

    def update(params, model_state, progress):
        del params, progress
        return model_state

    return Method(init, loss, update, network.embed_state)
