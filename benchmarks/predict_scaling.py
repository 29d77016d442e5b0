"""Predicts step time and efficiency on several GPUs. It measures nothing.

    python benchmarks/predict_scaling.py
    python benchmarks/predict_scaling.py --case=byol --inter-gbs=25 --latency-us=50
    python benchmarks/predict_scaling.py --tflops=989 --utilisation=0.2
    python benchmarks/predict_scaling.py --out=benchmarks/results/predicted_scaling.md

ResNet-50, 224 px, bfloat16. A step's time is the sum of

- compute: a device's images over its images/s. The default is measured (one H100, 128
  images, benchmarks/results/gpu/README.md, "Rates"). Other numbers of images are
  assumed to run at the same rate; fewer will be slower. It was SimCLR's; other methods'
  time is in proportion to their forward and backward passes. More images than fit
  (`--most-images`, from the memory of 128) go in micro-batches, which compute the
  forward pass twice;
- loss: the similarities of the device's own rows with those of the whole batch, in
  float32. The part of them that grows with the number of devices;
- gradients: their all-reduce. Between none of it and all of it is hidden behind the
  backward pass, so that times and efficiencies are ranges;
- rest: BatchNorm's statistics, embeddings, and what else is sent. Nothing hides it;
- latency: a fixed time for each collective, however large.

What is sent is what benchmarks/results/communication.jsonl counted. All-reduce and
all-gather run in rings: a device sends 2 (n - 1) / n or (n - 1) / n of the result. A
ring enters a node once, and there is one for each network card, so that its bandwidth
is the least of the link's within a node and the node's cards together. An exchange
between nodes has a device's share of the cards.

Efficiency: the time of one device with as many images of its own, over the step's.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bytes_sent import Sent, in_blocks, sent
from benchmarks.communication import read

DEVICES = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (4096, 8192, 16_384, 32_768, 65_536)

# Passes through the network in units of one view's forward pass; a backward pass takes
# two. SimCLR: both views, forward and backward. BYOL: the target's two views forward
# too. MoCo: a query forward and backward, a key forward.
PASSES = {"simclr": 6, "byol": 8, "moco": 4}
AGAIN = {"simclr": 2, "byol": 2, "moco": 1}  # in micro-batches
GFLOP = 49.0  # SimCLR's step for an image, both views, by the convolutions
DIM = 128  # width of SimCLR's embeddings
BLOCK = 1024  # rows of SimCLR's similarities at a time, if there are many
NETWORK_MESSAGES = 2 * 55  # SimCLR's: one forward, one backward for each BatchNorm


class Machine(NamedTuple):
    """What the prediction assumes of the machine."""

    images_per_s: float = 2552.0  # of one device, SimCLR
    intra_gbs: float = 450.0  # GB/s in one direction between devices of a node
    inter_gbs: float = 50.0  # GB/s of one network card
    per_node: int = 8  # devices
    cards: int = 8  # network cards of a node
    latency_us: float = 30.0  # of a collective
    loss_tflops: float = 30.0  # float32 products of the loss
    most_images: int = 880  # of a device without micro-batches


PARTS = ("compute", "loss", "gradients", "rest", "latency")


class Step(NamedTuple):
    """A predicted step, in seconds; `loss` only what one device would not have."""

    compute: float
    loss: float
    gradients: float
    rest: float
    latency: float
    microbatches: int

    def total(self, overlap: float) -> float:
        """With a share of the gradients' time hidden behind the backward pass."""
        backward = self.compute / 2  # MoCo's; others' is more
        hidden = min(overlap * self.gradients, backward)
        return sum(self[:5]) - hidden

    def efficiency(self, overlap: float) -> float:
        return self.compute / self.total(overlap)


def loss_flop(case: str, own: int, batch: int) -> float:
    """FLOPs of the similarities of `own` images with the batch, and their gradient."""
    if case != "simclr":
        return 0.0  # BYOL has none; MoCo's queue has the same length on any number
    products = 4 if in_blocks(batch) else 3
    return products * 2.0 * (2 * own) * (2 * batch) * DIM


def loss_bytes(case: str, devices: int, batch: int) -> float:
    """Bytes of the similarities that a device holds at a time."""
    rows = BLOCK if in_blocks(batch) else 2 * batch
    return 4 * rows * 2 * batch / devices if case == "simclr" else 0.0


def predict(
    found: Sent | None, case: str, devices: int, batch: int, machine: Machine
) -> Step:
    """The step of a global batch on so many devices.

    Args:
      found: what a device sends; None for one device.
    """
    own = batch // devices
    pieces = math.ceil(own / machine.most_images)
    passes = PASSES[case] + (AGAIN[case] if pieces > 1 else 0)
    compute = own / machine.images_per_s * passes / PASSES["simclr"]
    flop = loss_flop(case, own, batch) - loss_flop(case, own, own)
    loss = max(flop, 0.0) / (machine.loss_tflops * 1e12)
    if found is None or devices == 1:
        return Step(compute, loss, 0.0, 0.0, 0.0, pieces)

    ring = exchange = machine.intra_gbs * 1e9
    if devices > machine.per_node:
        cards = machine.cards * machine.inter_gbs * 1e9
        ring, exchange = min(ring, cards), min(exchange, cards / machine.per_node)
    # A micro-batch sends all gradients and statistics; those of its second forward pass
    # too, which are at most half as many again.
    again = found.batch_norm * (1.5 * pieces - 1) if pieces > 1 else 0.0
    rest = (found.rings + again) / ring + found.exchanges / exchange
    messages = repeated = found.messages
    if case == "simclr":  # what its loss sends does not repeat
        repeated = min(messages, NETWORK_MESSAGES)
    messages += repeated * (1.5 * pieces - 1) if pieces > 1 else 0
    latency = messages * machine.latency_us * 1e-6
    return Step(compute, loss, pieces * found.gradients / ring, rest, latency, pieces)


def rows(records: dict, case: str, machine: Machine) -> list[dict[str, Any]]:
    """A prediction for each batch and number of devices."""
    found = []
    for batch in BATCHES:
        for devices in DEVICES:
            bytes_sent, counted = sent(records, case, devices, batch)
            step = predict(bytes_sent, case, devices, batch, machine)
            found.append(
                {"case": case, "batch": batch, "devices": devices, "counted": counted}
                | {"sent_mb": round(sum(bytes_sent[:3]) / 1e6, 1)}
                | {"messages": round(bytes_sent.messages)}
                | {f"{k}_ms": round(1e3 * getattr(step, k), 3) for k in PARTS}
                | {"microbatches": step.microbatches}
                | {"step_ms": [round(1e3 * step.total(x), 2) for x in (0, 1)]}
                | {"efficiency": [round(step.efficiency(x), 4) for x in (0, 1)]}
                | {"loss_mb": round(loss_bytes(case, devices, batch) / 1e6, 1)}
            )
    return found


def table(predicted: list[dict[str, Any]]) -> str:
    """The predictions as Markdown."""
    header = ["batch", "devices", "images each", "step, ms", "efficiency, %"]
    header += ["compute", "loss", "gradients", "rest", "latency", "MB sent", "messages"]
    lines = [[*header, ""], ["---"] * (len(header) + 1)]
    for x in predicted:
        late, early = x["step_ms"]
        low, high = (100 * share for share in x["efficiency"])
        notes = [f"{x['microbatches']} micro-batches"] if x["microbatches"] > 1 else []
        notes += [] if x["counted"] else ["not counted"]
        parts = (x[f"{name}_ms"] for name in PARTS)
        cells = [
            f"{x['batch']:,}",
            f"{x['devices']}",
            f"{x['batch'] // x['devices']:,}",
        ]
        cells += [f"{early:,.1f} to {late:,.1f}", f"{low:.1f} to {high:.1f}"]
        cells += [f"{part:,.2f}" for part in parts]
        cells += [f"{x['sent_mb']:,.0f}", f"{x['messages']:,}", ", ".join(notes)]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def title(case: str, machine: Machine) -> str:
    """What a table is, with every assumption."""
    fields = ", ".join(f"{k} {v:g}" for k, v in machine._asdict().items())
    return (
        f"PREDICTED, not measured: {case}, ResNet-50, 224 px, bfloat16.\nAssumed: "
        f"{fields}. Step and efficiency are given with all and with none of the "
        "gradients' time hidden; times are in ms. What is sent is that of the whole "
        "batch at once."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", choices=PASSES, default="simclr")
    parser.add_argument(
        "--tflops", type=float, help="a device's peak; replaces --images-per-s"
    )
    parser.add_argument("--utilisation", type=float, default=0.16, help="share of it")
    for name, value in Machine._field_defaults.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(value), default=value)
    parser.add_argument("--out", type=Path, help="also write there, as .md or .json")
    request = parser.parse_args()
    machine = Machine(**{name: getattr(request, name) for name in Machine._fields})
    if request.tflops:
        rate = request.tflops * request.utilisation * 1e12 / (GFLOP * 1e9)
        machine = machine._replace(images_per_s=rate)
    predicted = rows(read(), request.case, machine)
    text = f"{title(request.case, machine)}\n\n{table(predicted)}\n"
    print(text, end="")
    if request.out and request.out.suffix == ".json":
        assumed = {"predicted": True, "assumed": machine._asdict()}
        text = json.dumps(assumed | {"rows": predicted}, indent=1) + "\n"
    if request.out:
        request.out.write_text(text)


if __name__ == "__main__":
    main()
