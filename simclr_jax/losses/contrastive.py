"""Losses that tell each embedding from others, and how often it is told."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from simclr_jax.losses._checks import (
    Scalar,
    check_pair,
    check_scalar,
    normalize_negatives,
)
from simclr_jax.losses._rows import is_column, l2_normalize, map_blocks, similarities

AxisName = str | tuple[str, ...] | None

DECOUPLED = (False, True, "weighted")


def nt_xent(
    z_a: Array,
    z_b: Array,
    *,
    temperature: Scalar = 0.5,
    block_size: int | None = None,
    axis_name: AxisName = None,
    negatives: Array | None = None,
    decoupled: bool | str = False,
    sigma: Scalar = 0.5,
) -> Array:
    """SimCLR's loss: each view has to find its partner among the 2N - 1 others.

    `l_i = logsumexp_{k != i} s_ik - s_ij`, with `s` the cosine similarities over
    `temperature` and j the other view of i (arXiv:2002.05709, equation 1). The mean is
    the paper's L; Google's code minimises 2 L.

    `decoupled` leaves s_ij out of the sum (arXiv:2110.06848). "weighted", its DCLW, has
    `w s_ij` in place of `s_ij`, with `w = 2 - exp(c / sigma) / mean(exp(c / sigma))`: c
    is a pair's cosine, the mean is over the batch's pairs, and w gets no gradient.

    Under plain `jit` a batch sharded over devices needs no `axis_name`: negatives are
    global. Inside `shard_map` or `pmap`, name the axis: each device returns the losses
    of its anchors against all devices' embeddings, and gradients reach those. Write
    `lax.pmean(nt_xent(z_a, z_b, axis_name="data").mean(), "data")`; in `pmap`, or with
    `check_vma=False`, also `pmean` the gradient of the parameters.

    Args:
      z_a, z_b: [N, D], the two views; row i of both shows image i.
      temperature: divides the similarities.
      block_size: how many rows of the [2N, 2N + K] similarity matrix to hold at a time,
        >= 1, forward and backward (about 4 * block_size * (2N + K) bytes). Value and
        gradient stay the same. It need not divide 2N. None: all rows at once.
      axis_name: mapped axis, or axes, from which to gather negatives.
      negatives: [K, D], additional ones for every anchor (a memory, section 2 of
        arXiv:2006.10029). Gradients reach them; they are not gathered. None: K = 0.
      decoupled: False, True or "weighted"; needs a negative: N > 1 or K > 0.
      sigma: of the weights; used if "weighted".

    Returns:
      [2N], z_a's anchors first; if all embeddings are equal log(2N - 1 + K), or
      log(2N - 2 + K) if decoupled.

    Example:
      >>> nt_xent(jnp.eye(4), jnp.eye(4)).tolist()[:2]  # log(e^2 + 6) - 2
      [0.594..., 0.594...]
    """
    check_pair("z_a", z_a, "z_b", z_b)
    if decoupled not in DECOUPLED:
        raise ValueError(f"decoupled must be one of {DECOUPLED}, got {decoupled!r}")
    temperature = check_scalar("temperature", temperature)
    z_a, z_b = l2_normalize(z_a), l2_normalize(z_b)
    extra = None if negatives is None else normalize_negatives(negatives, "z_a", z_a)
    cosine = jnp.sum(z_a * z_b, axis=1)
    log_partition = _log_partition(temperature, extra, axis_name, bool(decoupled))
    partition = log_partition(jnp.concatenate([z_a, z_b]), block_size)
    positive = cosine / temperature
    if decoupled == "weighted":
        positive *= _weights(cosine, check_scalar("sigma", sigma), axis_name)
    return partition - jnp.concatenate([positive, positive])


def info_nce(
    query: Array,
    positive: Array,
    negatives: Array | None = None,
    *,
    temperature: Scalar = 0.2,
) -> Array:
    """MoCo's loss: each query has to find its key among the negatives of a queue.

    `l_i = logsumexp([q_i.k_i, q_i.n_1, ..., q_i.n_K] / t) - q_i.k_i / t`, equation 1 of
    arXiv:1911.05722. Gradients flow to all arguments; MoCo itself stops the keys'.

    Args:
      query: [N, D].
      positive: [N, D], the key of each query.
      negatives: [K, D], shared by all queries. None: each query's negatives are the
        keys of the other N - 1 queries.
      temperature: t; 0.2 is MoCo v2's (arXiv:2003.04297), 0.07 was v1's.

    Returns:
      [N].

    Example:
      >>> q, n = jnp.eye(4)[:2], jnp.eye(4)[2:]
      >>> info_nce(q, q, n, temperature=1.0).tolist()  # log(e + 2) - 1
      [0.551..., 0.551...]
    """
    check_pair("query", query, "positive", positive)
    temperature = check_scalar("temperature", temperature)
    query, positive = l2_normalize(query), l2_normalize(positive)
    match = jnp.sum(query * positive, axis=1, keepdims=True)
    if negatives is None:
        logits = similarities(query, positive)  # the match is on the diagonal
    else:
        rivals = similarities(query, normalize_negatives(negatives, "query", query))
        logits = jnp.concatenate([match, rivals], axis=1)
    return logsumexp(logits / temperature, axis=1) - match[:, 0] / temperature


def contrastive_accuracy(z_a: Array, z_b: Array) -> Array:
    """The share of views whose nearest neighbour is the other view of their image.

    Each of the 2N views counts whose cosine similarity to its positive is greater, by
    more than 1e-6, than to each of the 2N - 2 other views. So a tie is a miss:
    embeddings collapsed to one point score 0. No gradient flows. The similarities are
    computed 512 rows at a time.

    Args:
      z_a: [N, D], first views.
      z_b: [N, D], second views.

    Returns:
      [], in [0, 1]; 1 for N = 1, where nothing competes.

    Example:
      >>> contrastive_accuracy(jnp.eye(4), jnp.eye(4)).item()
      1.0
    """
    check_pair("z_a", z_a, "z_b", z_b)
    z = lax.stop_gradient(jnp.concatenate([l2_normalize(z_a), l2_normalize(z_b)]))

    def hit(rows, itself):
        similarity = similarities(rows, z)
        positive = is_column((itself + len(z) // 2) % len(z), similarity)
        excluded = positive | is_column(itself, similarity)
        rivals = jnp.where(excluded, -jnp.inf, similarity)
        match = jnp.max(similarity, axis=1, where=positive, initial=-jnp.inf)
        return (match > rivals.max(axis=1) + 1e-6).astype(jnp.float32)

    return map_blocks(hit, z, jnp.arange(len(z), dtype=jnp.int32), 512).mean()


def _log_partition(
    temperature: Array,
    extra: Array | None,
    axis_name: AxisName,
    decoupled: bool,
) -> Callable[[Array, int | None], Array]:
    """Makes `(anchors [2N, D], block_size) -> [2N]`, the first term of `nt_xent`.

    Args:
      temperature: [].
      extra: [K, D], normalised negatives.
      axis_name: where to gather the other anchors.
      decoupled: whether to leave an anchor's partner out.
    """

    def log_partition(anchors: Array, block_size: int | None) -> Array:
        others, first, size = anchors, jnp.int32(0), len(anchors)
        if axis_name is not None:
            others = lax.all_gather(anchors, axis_name, tiled=True)
            first = lax.axis_index(axis_name) * size
        if extra is not None:
            others = jnp.concatenate([others, extra])
        if decoupled and len(others) == 2:
            raise ValueError("decoupled needs negatives, got one image and no others")

        def of_rows(rows: Array, itself: Array) -> Array:
            logits = similarities(rows / temperature, others)
            left_out = is_column(itself, logits)
            if decoupled:
                partner = first + (itself - first + size // 2) % size
                left_out |= is_column(partner, logits)
            # With jnp.where XLA would keep the -inf as another matrix for the whole
            # loop.
            excluded = jnp.full_like(logits, -jnp.inf)
            return logsumexp(lax.select(left_out, excluded, logits), axis=1)

        # Each anchor's own column.
        itself = first + jnp.arange(size, dtype=jnp.int32)
        return map_blocks(of_rows, anchors, itself, block_size)

    return log_partition


def _weights(cosine: Array, sigma: Array, axis_name: AxisName) -> Array:
    """DCLW's weight of each pair [N], from their cosines [N]; 1 on average."""
    cosine = lax.stop_gradient(cosine)
    batch = cosine
    if axis_name is not None:
        batch = lax.all_gather(cosine, axis_name, tiled=True)
    log_mean = logsumexp(batch / sigma) - jnp.log(jnp.float32(len(batch)))
    return 2.0 - jnp.exp(cosine / sigma - log_mean)
