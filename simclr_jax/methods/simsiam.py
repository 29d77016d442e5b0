"""SimSiam (Chen and He 2021, arXiv 2011.10566): predict, from one view, how the same
network sees the other view. No negatives, no target network; the stopped gradient of
what is predicted keeps it from collapsing.

It differs from the authors' code in two places. Their predictor keeps its learning rate
constant; here the schedule holds for all. Their projector's last BatchNorm has no
parameters; `Projector`'s has a scale.
"""

import flax.linen as nn
import jax

from simclr_jax.heads import Predictor
from simclr_jax.losses import byol_regression
from simclr_jax.methods import Method, embedding_metrics
from simclr_jax.microbatches import encode_each
from simclr_jax.networks import Network, apply_module, init_module, variables


def simsiam(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    predictor: nn.Module | None = None,
    microbatch: int | None = None,
    symmetric: bool = True,
) -> Method:
    """SimSiam: minus the cosine of prediction and projection (equations 1 to 4).

    The loss lies in [-1, 1]. Each view is normalised by itself, as in the authors'
    code. Images meet in BatchNorm only, so the loss of a batch is the mean of its
    micro-batches'. Metrics: `embedding_std` of the projections, which falls to 0 when
    SimSiam fails, and `contrastive_accuracy`, which the loss does not optimise.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`. The paper's for CIFAR-10 is
        `Projector(layers=2, hidden=2048, dim=2048)`; for ImageNet it has 3 layers.
      predictor: `predictor(z, train) -> [B, D]`; default `Predictor(hidden=512)`.
      microbatch: see `simclr_jax.methods.make`.
      symmetric: the mean over both directions; False predicts the second view only.
    """
    network = Network(encoder, projector)
    head = Predictor(hidden=512) if predictor is None else predictor

    def init(key, images):
        key_network, key_head = jax.random.split(key)
        params, batch_stats = network.init(key_network, images)
        z = network.embed(params, batch_stats, images)["z"]
        _, weights, stats = init_module(key_head, head, z)
        params = params | {"predictor": weights}
        return params, {"batch_stats": batch_stats | {"predictor": stats}}

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # SimSiam draws nothing and remembers no image

        def predict(batch_stats, images):
            (h, z), stats = network.train(params, batch_stats, images)
            own = variables(params, batch_stats, "predictor")
            prediction, head_stats = apply_module(head, own, z, train=True)
            return (h, z, prediction), stats | {"predictor": head_stats}

        ((h, z_a, p_a), (_, z_b, p_b)), batch_stats = encode_each(
            predict, model_state["batch_stats"], views, microbatch=microbatch
        )
        h, z_a, z_b = jax.lax.stop_gradient((h, z_a, z_b))
        distance = byol_regression(p_a, z_b)  # 2 - 2 cos
        if symmetric:
            distance = (distance + byol_regression(p_b, z_a)) / 2
        metrics = embedding_metrics(z_a, z_b) | ({"h": h} if features else {})
        new_state = model_state | {"batch_stats": batch_stats}
        return distance.mean() / 2 - 1, (new_state, metrics)

    def update(params, model_state, progress):
        del params, progress
        return model_state

    return Method(init, loss, update, network.embed_state)
