"""SimCLR (Chen et al. 2020, arXiv 2002.05709): find each image's other view among all
other images of the batch. SimCLRv2 (arXiv 2006.10029) has the same loss on top of a
deeper projector (`Projector(layers=3)`), and optionally a memory.

With a memory, a moving average of the network projects both views too, in training
mode, with its own BatchNorm statistics and no gradient. Its keys of earlier batches
are additional negatives for every view. The paper (section 2) has 64K keys and a
momentum of 0.999, and reports about 1 % more on ImageNet.

Decoupled contrastive learning (Yeh et al. 2021, arXiv 2110.06848) is this method with
`decoupled`: an image's other view leaves the sum over the others. Then a pair that is
already close still gets a gradient when there are few negatives.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from simclr_jax import losses
from simclr_jax.methods import Method, _memory, embedding_metrics
from simclr_jax.microbatches import encode_views
from simclr_jax.networks import Network

# More similarities than this are computed in blocks: the matrix of 8,192 embeddings and
# its gradient take half a gigabyte.
_BLOCKS_FROM = 8192 * 8192
_BLOCK_SIZE = 1024

_MOMENTUM = 0.999

DECOUPLED = losses.DECOUPLED


def simclr(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    microbatch: int | None = None,
    temperature: float = 0.5,
    memory: int = 0,
    momentum: float = _MOMENTUM,
    decoupled: bool | str = False,
) -> Method:
    """SimCLR: NT-Xent (equation 1) on the projections of two views.

    Both views pass through the network in one batch of 2B, so BatchNorm normalises over
    both, as in the paper's code. Metrics: those of `methods.embedding_metrics`.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`.
      microbatch: see `simclr_jax.methods.make`.
      temperature: of the loss; the paper has 0.5 for CIFAR-10, 0.1 for ImageNet.
      memory: how many keys to keep, a multiple of the keys in a batch (two per image);
        0 keeps none, as the paper of 2020.
      momentum: of the memory network's moving average, per step.
      decoupled: True is DCL's loss, "weighted" DCLW's; see `losses.nt_xent`.
    """
    _check_options(temperature, memory, momentum, decoupled)
    network, queue = Network(encoder, projector), _memory.Queue(memory, momentum)

    def init(key, images):
        params, batch_stats = network.init(key, images)
        model_state = {"batch_stats": batch_stats}
        if memory:
            z = jax.eval_shape(network.embed, params, batch_stats, images)["z"]
            # A third key, so the network's weights are the same without a memory.
            key_memory = jax.random.fold_in(key, 2)
            model_state |= queue.start(key_memory, params, batch_stats, z.shape[1])
        return params, model_state

    def loss(params, model_state, key, views, index=None, features=False):
        del key, index  # SimCLR draws nothing and remembers no image
        options = {"memory": memory, "momentum": momentum}
        if wrong := problem(len(views[0]), microbatch, **options):
            raise ValueError(": ".join(wrong))

        def encode(params, batch_stats):
            apply = partial(network.train, params)
            return encode_views(apply, batch_stats, views, microbatch=microbatch)

        ((h, z_a), (_, z_b)), batch_stats = encode(params, model_state["batch_stats"])
        new_state = model_state | {"batch_stats": batch_stats}
        if memory:
            _, new_state = queue.enqueue(new_state, encode)
        value = _nt_xent(z_a, z_b, temperature, model_state.get("queue"), decoupled)
        probed = {"h": jax.lax.stop_gradient(h)} if features else {}
        return value, (new_state, embedding_metrics(z_a, z_b) | probed)

    def update(params, model_state, progress):
        return queue.follow(params, model_state) if memory else model_state

    return Method(init, loss, update, network.embed_state)


def _check_options(
    temperature: float, memory: int, momentum: float, decoupled: bool | str
) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if memory < 0:
        raise ValueError(f"memory must not be negative, got {memory}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
    if decoupled not in DECOUPLED:
        raise ValueError(f"decoupled must be one of {DECOUPLED}, got {decoupled!r}")


def _nt_xent(
    z_a: jax.Array,
    z_b: jax.Array,
    temperature: float,
    negatives: jax.Array | None,
    decoupled: bool | str,
) -> jax.Array:
    """The mean loss [], in blocks if the matrix of similarities would be large."""
    anchors = 2 * len(z_a)
    others = anchors + (0 if negatives is None else len(negatives))
    return losses.nt_xent(
        z_a,
        z_b,
        temperature=temperature,
        block_size=_BLOCK_SIZE if anchors * others > _BLOCKS_FROM else None,
        negatives=negatives,
        decoupled=decoupled,
    ).mean()


def problem(
    batch_size: int, microbatch: int | None, *, memory: int, momentum: float, **_: Any
) -> tuple[str, str] | None:
    """Checks that the keys of a batch divide the memory; see `methods.problem`."""
    if not memory:
        if momentum == _MOMENTUM:
            return None
        return "method.momentum", "is used with a memory only; set method.memory too"
    return _memory.check_queue(
        "method.memory",
        memory,
        batch_size,
        keys=2,
        fits=lambda batch: batch % (microbatch or 1) == 0,
    )
