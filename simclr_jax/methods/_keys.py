"""The sources of MoCo's keys and negatives: the three mechanisms of figure 2.

`moco` works with any `Source`; only this file tells them apart.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from simclr_jax.losses import l2_normalize
from simclr_jax.methods._memory import Encode, Queue, check_queue, random_rows
from simclr_jax.networks import moving_average

MECHANISMS = ("queue", "end_to_end", "memory_bank")


class Step(NamedTuple):
    """What a source may use to make the keys of a training step."""

    key: jax.Array
    params: Any
    model_state: dict[str, Any]  # after the queries' forward pass
    encode: Encode  # encodes the views that need keys, in BatchNorm groups
    query: jax.Array  # [B, D], the first view's
    index: jax.Array | None  # [B], the images' positions in the data set


class Source(NamedTuple):
    """A mechanism, as three functions.

    Attributes:
      start: `(key, params, batch_stats, dim) -> entries to add to model_state`.
      keys: `(step) -> ([keys [B, D] of each view's queries], negatives [K, D], new
        model_state)`. If negatives is None, the batch's other keys serve.
      follow: `(params, model_state) -> model_state`, called after the optimizer.
    """

    start: Callable[[jax.Array, Any, Any, int], dict[str, Any]]
    keys: Callable[[Step], tuple[list[jax.Array], jax.Array | None, dict[str, Any]]]
    follow: Callable[[Any, Any], Any]


def make(
    mechanism: str,
    queue_size: int,
    momentum: float,
    num_examples: int | None,
    bank_momentum: float,
) -> Source:
    """Makes the source of this name; the arguments are those of `moco`."""
    if not (0 <= momentum <= 1 and 0 <= bank_momentum <= 1):
        raise ValueError(
            "momentum and bank_momentum must be from 0 to 1, got "
            f"{momentum} and {bank_momentum}"
        )
    if mechanism == "queue":
        return queue(queue_size, momentum)
    if mechanism == "end_to_end":
        return end_to_end()
    if mechanism != "memory_bank":
        raise ValueError(f"mechanism must be one of {MECHANISMS}, got {mechanism!r}")
    if num_examples is None:
        raise ValueError("a memory_bank needs num_examples, the size of the data set")
    return memory_bank(num_examples, queue_size, bank_momentum)


def check(
    mechanism: str,
    queue_size: int,
    batch_size: int,
    *,
    symmetric: bool,
    fits: Callable[[int], bool],
) -> tuple[str, str] | None:
    """Checks that the mechanism accepts the batch; see `methods.problem`.

    Args:
      mechanism, queue_size, symmetric: as for `moco`.
      batch_size: images in a batch.
      fits: tells whether a batch size meets all other conditions.
    """
    if mechanism == "memory_bank" and symmetric:
        return (
            "method.symmetric",
            "must be False, because a memory_bank has one key for both views",
        )
    if mechanism != "queue":
        return None
    keys = 2 if symmetric else 1  # per image
    return check_queue(
        "method.queue_size", queue_size, batch_size, keys=keys, fits=fits
    )


def queue(size: int, momentum: float) -> Source:
    """Keys from a moving average of the network; negatives are the last keys."""
    memory = Queue(size, momentum)

    def keys(step: Step):
        matches, new_state = memory.enqueue(step.model_state, step.encode)
        return matches, step.model_state["queue"], new_state

    return Source(memory.start, keys, memory.follow)


def end_to_end() -> Source:
    """Keys from the network itself, with gradient; nothing is remembered."""

    def keys(step: Step):
        state = step.model_state
        outputs, batch_stats = step.encode(step.params, state["batch_stats"])
        return [z for _, z in outputs], None, state | {"batch_stats": batch_stats}

    return Source(lambda *_: {}, keys, _stay)


def memory_bank(rows: int, negatives: int, momentum: float) -> Source:
    """Stores a feature for each of `rows` images and draws negatives from all of them.

    Each time an image is seen, its feature moves towards its query.
    """

    def start(key, params, batch_stats, dim):
        del params, batch_stats
        return {"bank": random_rows(key, rows, dim)}

    def keys(step: Step):
        if step.index is None:
            raise ValueError("a memory_bank needs index, the images' positions")
        bank = step.model_state["bank"]
        matches = bank[step.index]
        drawn = jax.random.randint(step.key, (negatives,), 0, len(bank))
        fresh = l2_normalize(jax.lax.stop_gradient(step.query))
        blend = l2_normalize(moving_average(matches, fresh, momentum))
        rivals, renewed = bank[drawn], bank.at[step.index].set(blend)
        return [matches], rivals, step.model_state | {"bank": renewed}

    return Source(start, keys, _stay)


def _stay(params: Any, model_state: Any) -> Any:
    """Leaves model_state as it is, for sources without a target network."""
    del params
    return model_state
