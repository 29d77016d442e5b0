"""MoCo (He et al. 2020, arXiv 1911.05722): find the key of an image's other view in a
dictionary of keys that is larger than the batch.

v1 and v2 (arXiv 2003.04297) differ in their settings: temperature 0.07 or 0.2, a linear
head (`Projector(layers=1, norm=False)`) or an MLP (`layers=2`), and the augmentation.

With plain BatchNorm a query could recognise its key by their shared batch statistics
(section 3.3). So queries are normalised in groups of the batch, and keys in as many
groups of its images in another order. 8 GPUs with shuffled keys do the same; here it
takes any number of devices. A micro-batch has groups of the same size, or is one group.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from simclr_jax import losses
from simclr_jax.methods import Method, _keys, _shuffle, embedding_std
from simclr_jax.microbatches import encode_each, in_groups
from simclr_jax.networks import Network

MECHANISMS = _keys.MECHANISMS
SHUFFLES = _shuffle.SHUFFLES

_ACCURACY_QUERIES = 1024  # the accuracy of this many costs next to nothing


def moco(
    encoder: nn.Module,
    *,
    projector: nn.Module,
    microbatch: int | None = None,
    num_examples: int | None = None,
    mechanism: str = "queue",
    temperature: float = 0.2,
    momentum: float = 0.999,
    queue_size: int = 65_536,
    bn_groups: int = 8,
    shuffle: bool | str = True,
    symmetric: bool = False,
    bank_momentum: float = 0.5,
) -> Method:
    """MoCo: InfoNCE of the first view's query with the second view's key.

    Metrics: `contrastive_accuracy`, the share of queries (of at most 1,024) nearer to
    their key than to every negative, and `embedding_std` of the queries.

    Args:
      encoder: `encoder(images, train) -> h [B, F]`.
      projector: `projector(h, train) -> z [B, D]`.
      microbatch, num_examples: see `simclr_jax.methods.make`.
      mechanism: "queue": keys come from a moving average of the network; negatives are
        the keys of the last batches. "end_to_end": keys come from the network itself,
        with gradient; negatives are the batch's other keys. "memory_bank": the key is a
        feature stored for each of `num_examples` images, and negatives are drawn from
        all of them (Wu et al. 2018, arXiv 1805.01978); the second view is not used.
      temperature: of the loss; v2 has 0.2, v1 0.07.
      momentum: of the key network's moving average, per step.
      queue_size: negatives per query: the length of the queue (a multiple of the keys
        in a batch), or how many to draw from the memory bank.
      bn_groups: must divide the batch; 1 normalises over all of it, and leaks.
      shuffle: how keys change groups. True: in a random order, as in the paper; on
        several devices every device then gets all images of the batch, as there too.
        "spread": each group of keys takes equally many images from every group of
        queries, in a fixed order (the order of the data is random already), and a
        device sends only images of its own. False leaves the keys in the queries'
        groups, and leaks most. True is the default because it is the paper's, costs
        nothing on one device, and older workdirs that leave it unset have it.
      symmetric: add the loss of the second view's query with the first view's key; the
        queue then gets the keys of both views. Not for a memory bank.
      bank_momentum: how much of a stored feature stays when its image is seen again.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if shuffle not in SHUFFLES:
        raise ValueError(f"shuffle must be one of {SHUFFLES}, got {shuffle!r}")
    source = _keys.make(mechanism, queue_size, momentum, num_examples, bank_momentum)
    options = {"mechanism": mechanism, "queue_size": queue_size}
    options |= {"bn_groups": bn_groups, "symmetric": symmetric}
    moco = _MoCo(
        Network(encoder, projector), source, temperature, microbatch, shuffle, options
    )
    return Method(moco.init, moco.loss, moco.update, moco.network.embed_state)


class _MoCo(NamedTuple):
    """The functions of a `Method`; the fields hold the options."""

    network: Network
    source: _keys.Source
    temperature: float
    microbatch: int | None
    shuffle: bool | str
    options: dict[str, Any]  # those that `problem` checks

    def init(self, key, images):
        key_network, key_memory = jax.random.split(key)
        params, batch_stats = self.network.init(key_network, images)
        z = jax.eval_shape(self.network.embed, params, batch_stats, images)["z"]
        memory = self.source.start(key_memory, params, batch_stats, z.shape[1])
        return params, {"batch_stats": batch_stats} | memory

    def loss(self, params, model_state, key, views, index=None, features=False):
        size = len(views[0])
        if wrong := problem(size, self.microbatch, **self.options):
            raise ValueError(": ".join(wrong))
        key_order, key_memory = jax.random.split(key)
        groups = _groups(size, self.microbatch, self.options["bn_groups"])
        shuffle = _shuffle.make(self.shuffle, key_order, size, groups.in_batch)
        query_views, key_views = views[:1], views[1:]
        if self.options["symmetric"]:
            query_views, key_views = views, views[::-1]

        batch_stats = model_state["batch_stats"]
        outputs, batch_stats = self.encode(params, batch_stats, query_views)
        queries = [z for _, z in outputs]
        step = _keys.Step(
            key_memory,
            params,
            model_state | {"batch_stats": batch_stats},
            partial(self.encode, views=key_views, shuffle=shuffle),
            queries[0],
            index,
        )
        keys, negatives, new_state = self.source.keys(step)
        info_nce = partial(losses.info_nce, temperature=self.temperature)
        values = [
            info_nce(query, match, negatives).mean()
            for query, match in zip(queries, keys, strict=True)
        ]
        metrics = {
            "contrastive_accuracy": _accuracy(queries[0], keys[0], negatives),
            "embedding_std": embedding_std(queries[0]),
        }
        if features:
            metrics["h"] = jax.lax.stop_gradient(outputs[0][0])
        return sum(values), (new_state, metrics)

    def encode(self, params, batch_stats, views, shuffle=None):
        """`([(h, z) of each view], new batch_stats)`, in the order of `views`."""
        if shuffle is not None:
            views = tuple(shuffle.there(view) for view in views)
        groups = _groups(len(views[0]), self.microbatch, self.options["bn_groups"])
        apply = in_groups(partial(self.network.train, params), groups.in_pass)
        outputs, batch_stats = encode_each(
            apply, batch_stats, views, microbatch=self.microbatch
        )
        if shuffle is not None:
            outputs = jax.tree.map(shuffle.back, outputs)
        return outputs, batch_stats

    def update(self, params, model_state, progress):
        del progress
        return self.source.follow(params, model_state)


def problem(
    batch_size: int,
    microbatch: int | None,
    *,
    mechanism: str,
    queue_size: int,
    bn_groups: int,
    symmetric: bool,
    **_: Any,
) -> tuple[str, str] | None:
    """Checks that BatchNorm's groups and the keys fit; see `methods.problem`."""

    def fits_groups(batch: int) -> bool:
        return batch % bn_groups == 0 and batch // bn_groups >= 2

    if not fits_groups(batch_size):
        return (
            "method.bn_groups",
            f"a batch of {batch_size} can't be split into {bn_groups} equal groups of "
            "at least 2 images; change bn_groups or batch_size",
        )
    group = batch_size // bn_groups
    if microbatch and microbatch % group and group % microbatch:
        return (
            "microbatch",
            f"{microbatch} is neither a multiple nor a divisor of the {group} images "
            f"in a BatchNorm group (batch_size {batch_size} / method.bn_groups "
            f"{bn_groups})",
        )
    return _keys.check(
        mechanism,
        queue_size,
        batch_size,
        symmetric=symmetric,
        fits=lambda batch: fits_groups(batch) and batch % (microbatch or 1) == 0,
    )


class _Groups(NamedTuple):
    in_pass: int  # a forward pass, that of a micro-batch
    in_batch: int


def _groups(batch_size: int, microbatch: int | None, bn_groups: int) -> _Groups:
    """The number of BatchNorm's groups."""
    images = min(microbatch or batch_size, batch_size)
    in_pass = max(1, images * bn_groups // batch_size)
    return _Groups(in_pass, in_pass * (batch_size // images))


def _accuracy(query: jax.Array, match: jax.Array, negatives: jax.Array | None):
    """The share of queries whose key is nearer than every negative; no gradient."""
    query, match = (
        losses.l2_normalize(jax.lax.stop_gradient(x[:_ACCURACY_QUERIES]))
        for x in (query, match)
    )
    if negatives is None:
        similarity = jnp.matmul(query, match.T, precision="highest")
        matches = jnp.eye(len(query), dtype=bool)
        rivals = jnp.where(matches, -jnp.inf, similarity)
    else:
        rivals = jnp.matmul(query, negatives.T, precision="highest")
    # A tie is a miss: embeddings collapsed to one point score 0.
    return (jnp.sum(query * match, 1) > rivals.max(1) + 1e-6).mean()
