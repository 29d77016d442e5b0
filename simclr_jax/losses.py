"""The objectives, as pure functions of embeddings. This file imports jax only.

Every loss takes rows of any float type, computes in float32, and returns one
float32 value per anchor: take `.mean()` before `jax.grad`. All except `distillation`
normalise the embeddings. Wrong shapes and a temperature that is not positive and finite
raise a ValueError at trace time; the value of a traced temperature is not checked.

Rows may have any finite length: one longer than 1e-6 counts by its direction alone, a
shorter one is drawn towards zero (`l2_normalize`). An infinity or a NaN gives NaN; only
`distillation` takes -inf, a class that is ruled out.

On a CPU, call `simclr_jax.set_cpu_flags()` before jax uses a device: XLA then trains
the network around a loss with the fusions that the command uses
(docs/performance.md, "Speed on a CPU").
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.scipy.special import logsumexp

Scalar = float | Array


def l2_normalize(x: Array) -> Array:
    """Scales rows [..., D] to unit length, float32; a zero row stays zero.

    `x / sqrt(max(sum(x^2), 1e-12))`, as in TensorFlow's `l2_normalize`: rows shorter
    than 1e-6 stay shorter than 1. Clamping the norm instead would make the gradient NaN
    at a zero row. Rows longer than 1e19, whose squares float32 cannot hold, become unit
    rows too, up to D = 2^17. A gradient below float32's smallest number becomes zero.

    Example:
      >>> l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
      [[0.6..., 0.8...], [0.0, 0.0]]
    """
    x = jnp.asarray(x, jnp.float32)
    # A long row is scaled first, to between 1e-6 and 1e12: the gradient has the length
    # to the power of -3. Powers of two change no bit of the result; to divide every row
    # by its largest value would round it.
    largest = jnp.max(jnp.abs(x), -1, keepdims=True)
    scale = jnp.where(largest > 2.0**33, jnp.float32(2.0**-52), jnp.float32(1))
    x = x * jnp.where(largest > 2.0**85, jnp.float32(2.0**-95), scale)
    return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-12))


def nt_xent(
    z_a: Array,
    z_b: Array,
    *,
    temperature: Scalar = 0.5,
    block_size: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    negatives: Array | None = None,
) -> Array:
    """SimCLR's loss: each view has to find its partner among the 2N - 1 others.

    `l_i = logsumexp_{k != i} s_ik - s_ij`, with `s` the cosine similarities over
    `temperature` and j the other view of i (arXiv:2002.05709, equation 1). The mean is
    the paper's L; Google's code minimises 2 L.

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

    Returns:
      [2N], z_a's anchors first; log(2N - 1 + K) if all embeddings are equal.

    Example:
      >>> nt_xent(jnp.eye(4), jnp.eye(4)).tolist()[:2]  # log(e^2 + 6) - 2
      [0.594..., 0.594...]
    """
    _check_pair("z_a", z_a, "z_b", z_b)
    temperature = _check_temperature(temperature)
    z_a, z_b = l2_normalize(z_a), l2_normalize(z_b)
    positive = jnp.sum(z_a * z_b, axis=1) / temperature
    anchors = others = jnp.concatenate([z_a, z_b])
    itself = jnp.arange(len(anchors), dtype=jnp.int32)  # each anchor's own column
    if axis_name is not None:
        others = lax.all_gather(anchors, axis_name, tiled=True)
        itself = itself + lax.axis_index(axis_name) * len(anchors)
    if negatives is not None:
        extra = _normalize_negatives(negatives, "z_a", z_a)
        others = jnp.concatenate([others, extra])

    def log_partition(rows, itself):
        logits = _similarity(rows / temperature, others)
        # With jnp.where XLA would keep the -inf as another matrix for the whole loop.
        excluded = jnp.full_like(logits, -jnp.inf)
        logits = lax.select(_is_column(itself, logits), excluded, logits)
        return logsumexp(logits, axis=1)

    partition = _map_blocks(log_partition, anchors, itself, block_size)
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
    _check_pair("query", query, "positive", positive)
    temperature = _check_temperature(temperature)
    query, positive = l2_normalize(query), l2_normalize(positive)
    match = jnp.sum(query * positive, axis=1, keepdims=True)
    if negatives is None:
        logits = _similarity(query, positive)  # the match is on the diagonal
    else:
        rivals = _similarity(query, _normalize_negatives(negatives, "query", query))
        logits = jnp.concatenate([match, rivals], axis=1)
    return logsumexp(logits / temperature, axis=1) - match[:, 0] / temperature


def byol_regression(prediction: Array, target: Array) -> Array:
    """BYOL's loss: `2 - 2 cos(prediction, target)`, the squared distance on the sphere.

    Equation 2 of arXiv:2006.07733, which sums it over both directions. Gradients flow
    to both arguments: pass `lax.stop_gradient(target)` if the target needs none.

    Args:
      prediction: [N, D], the predictor's output for one view.
      target: [N, D], the target network's projection of the other view.

    Returns:
      [N], in [0, 4]; 2 where either row is zero.

    Example:
      >>> byol_regression(jnp.array([[2.0, 0], [1, 0]]), jnp.array([[1.0, 0], [0, 1]]))
      Array([0., 2.], dtype=float32)
    """
    _check_pair("prediction", prediction, "target", target)
    cosine = jnp.sum(l2_normalize(prediction) * l2_normalize(target), axis=1)
    return 2.0 - 2.0 * cosine


def distillation(
    student_logits: Array, teacher_logits: Array, *, temperature: Scalar = 1.0
) -> Array:
    """SimCLRv2's distillation: `-sum_c softmax(teacher/t)_c log_softmax(student/t)_c`.

    Equation 2 of arXiv:2006.10029. The teacher is the label, so no gradient reaches it.
    There is no factor t^2. A class to which the teacher gives no probability adds
    nothing, even if the student's logit is -inf.

    Args:
      student_logits: [N, C], unnormalised; -inf rules a class out.
      teacher_logits: [N, C], likewise.
      temperature: t, for both; the paper has 1.0, and 0.1 for self-distillation.

    Returns:
      [N]; never below the teacher's entropy. inf if the student rules out what the
      teacher does not, or if float32 cannot hold the value; NaN if a row rules out all
      classes or has a NaN or +inf.

    Example:
      >>> distillation(jnp.zeros((1, 2)), jnp.zeros((1, 2))).tolist()  # log(2)
      [0.693...]
    """
    _check_pair("student_logits", student_logits, "teacher_logits", teacher_logits)
    temperature = _check_temperature(temperature)
    student = jax.nn.log_softmax(_divide_logits(student_logits, temperature))
    teacher = jax.nn.softmax(_divide_logits(teacher_logits, temperature))
    teacher = lax.stop_gradient(teacher)
    # 0 log 0 is 0. The inner where keeps 0 * inf out of the gradient.
    student = jnp.where(teacher == 0, 0, student)
    return -jnp.sum(teacher * student, axis=1)


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
    _check_pair("z_a", z_a, "z_b", z_b)
    z = lax.stop_gradient(jnp.concatenate([l2_normalize(z_a), l2_normalize(z_b)]))

    def hit(rows, itself):
        similarity = _similarity(rows, z)
        positive = _is_column((itself + len(z) // 2) % len(z), similarity)
        excluded = positive | _is_column(itself, similarity)
        rivals = jnp.where(excluded, -jnp.inf, similarity)
        match = jnp.max(similarity, axis=1, where=positive, initial=-jnp.inf)
        return (match > rivals.max(axis=1) + 1e-6).astype(jnp.float32)

    return _map_blocks(hit, z, jnp.arange(len(z), dtype=jnp.int32), 512).mean()


def _divide_logits(logits: Array, temperature: Array) -> Array:
    """`logits / temperature` [N, C], less a number per row that keeps them in range.

    A softmax does not see that number. The largest logit becomes 0 before a temperature
    below 1 can make it infinite, and after one above 1 has made all of them small.
    """
    logits = jnp.asarray(logits, jnp.float32) / jnp.maximum(temperature, 1)
    largest = lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    return (logits - largest) / jnp.minimum(temperature, 1)


def _similarity(rows: Array, columns: Array) -> Array:
    """Dot products [M, D], [L, D] -> [M, L]; by default a GPU would use TF32."""
    return jnp.matmul(rows, columns.T, precision="highest")


def _is_column(index: Array, matrix: Array) -> Array:
    """True at column index[i] of row i: [M], [M, L] -> [M, L]."""
    return index[:, None] == jnp.arange(matrix.shape[1], dtype=jnp.int32)[None, :]


def _map_blocks(
    function: Callable[..., Array], rows: Array, index: Array, block_size: int | None
) -> Array:
    """function(rows [M, D], index [M]) -> [M], in blocks that backward recomputes."""
    if block_size is not None and not (
        hasattr(block_size, "__index__") and block_size >= 1
    ):
        raise ValueError(f"block_size must be at least 1 and whole, got {block_size}")
    size = len(rows)
    if block_size is None or block_size >= size:
        return function(rows, index)
    blocks = -(-size // block_size)

    def split(x):
        x = jnp.pad(x, [(0, -size % blocks)] + [(0, 0)] * (x.ndim - 1))
        # A block takes every `blocks`-th row, so it is sharded if the batch is.
        return x.reshape(-1, blocks, *x.shape[1:]).swapaxes(0, 1)

    # prevent_cse is needed only outside a loop, and costs time.
    step = jax.checkpoint(lambda block: function(*block), prevent_cse=False)
    values = lax.map(step, (split(rows), split(index)))
    return values.swapaxes(0, 1).reshape(-1)[:size]


def _check_pair(name: str, x: Array, other_name: str, other: Array) -> None:
    """ValueError unless both have the same shape [N, D] with N, D >= 1."""
    shape, other_shape = jnp.shape(x), jnp.shape(other)
    if len(shape) != 2 or 0 in shape or shape != other_shape:
        raise ValueError(
            f"{name} and {other_name} must have the same shape [N, D] with N, D >= 1, "
            f"got {shape} and {other_shape}"
        )


def _normalize_negatives(negatives: Array, name: str, rows: Array) -> Array:
    """`l2_normalize(negatives)`; ValueError unless they are [K, D] with the rows' D."""
    if jnp.ndim(negatives) != 2 or jnp.shape(negatives)[1] != rows.shape[1]:
        shapes = f"negatives {jnp.shape(negatives)} and {name} {rows.shape}"
        raise ValueError(f"negatives must be [K, D] with {name}'s D, got {shapes}")
    return l2_normalize(negatives)


def _check_temperature(temperature: Scalar) -> Array:
    """The temperature as float32.

    Raises:
      ValueError: it is known, and not a positive, finite and normal number in float32.
    """
    if jnp.ndim(temperature):
        raise ValueError(f"temperature must be a scalar, got {jnp.shape(temperature)}")
    limits = jnp.finfo(jnp.float32)
    low, high = float(limits.tiny), float(limits.max)
    if not isinstance(temperature, Tracer) and not low <= float(temperature) <= high:
        raise ValueError(
            "temperature must be positive and finite in float32, "
            f"{low:.3g} to {high:.3g}, got {temperature}"
        )
    return jnp.asarray(temperature, jnp.float32)
