"""What a device sends on its link in a step, from the lines of communication.jsonl."""

from typing import Any, NamedTuple

# SimCLR's similarities; more go in blocks, which are computed twice.
BLOCKS_FROM = 8192 * 8192


class Sent(NamedTuple):
    """What a device sends in a step, in bytes on its link, and in how many messages."""

    gradients: float
    rings: float  # all else in rings
    exchanges: float  # all-to-all and permutations
    batch_norm: float  # the part of `rings` that each micro-batch sends
    messages: float


def on_link(collective: str, nbytes: float, devices: int) -> float:
    """Bytes that each device sends for a result of so many bytes on a device."""
    others = (devices - 1) / devices
    return nbytes * {
        "all-reduce": 2 * others,
        "all-gather": others,
        "reduce-scatter": others * devices,
        "all-to-all": others,
        "collective-permute": 1,
    }.get(collective, 1)


def totals(record: dict[str, Any]) -> Sent:
    """A line of communication.jsonl, summed."""
    gradients = rings = exchanges = batch_norm = 0.0
    for row in record["sent"]:
        among = row["among"] or record["devices"]
        size = on_link(row["collective"], row["bytes"], among)
        if row["carries"] == "gradients":
            gradients += size
        elif row["collective"] in ("all-to-all", "collective-permute"):
            exchanges += size
        else:
            rings += size
            batch_norm += size if row["carries"] == "batch_norm" else 0
    return Sent(gradients, rings, exchanges, batch_norm, record["messages"])


def sent(records: dict, case: str, devices: int, batch: int) -> tuple[Sent, bool]:
    """What a device sends, and whether exactly this was counted.

    Where it was not: what the next larger number of devices sends, or what lies on the
    line through the smallest and the largest batch that were counted. SimCLR's batches
    of less than a block and of several are different programs, on different lines.

    Raises:
      ValueError: nothing near was counted.
    """
    larger = {n for name, n, _ in records if name == case and n >= devices}
    for number in sorted(larger):
        if (case, number, batch) in records:
            return totals(records[case, number, batch]), number == devices
        known = [
            size
            for name, n, size in records
            if (name, n) == (case, number)
            and (case != "simclr" or in_blocks(size) == in_blocks(batch))
        ]
        low, high = min(known, default=0), max(known, default=0)
        if low < high:
            ends = (totals(records[case, number, size]) for size in (low, high))
            share = (batch - low) / (high - low)
            return Sent(
                *(a + share * (b - a) for a, b in zip(*ends, strict=True))
            ), False
    raise ValueError(
        f"{case}, {devices} devices, batch {batch}: not counted; run "
        "benchmarks/communication.py"
    )


def in_blocks(batch: int) -> bool:
    """Whether SimCLR computes its similarities some rows at a time."""
    return (2 * batch) ** 2 > BLOCKS_FROM
