"""The turns of throughput.py on a GPU, the cheap ones first.

Every answer is printed as soon as it is there: what is dear (torch.compile, and the
peer's loader) comes last, so that a machine that is taken away early leaves the rest.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases as cases_lib
import numpy as np
import timing
from cases import CASES, Ours
from peer import Peer

# The peer is timed with its loader in this case only.
_LOADED = "r18_bf16"
_SECONDS = 0.8  # of a turn


class Case:
    """Our step of one case, compiled and warm.

    Attributes:
      steps: in one turn.
      compiled: what compiling took.
    """

    def __init__(self, name: str, folder: str):
        self.name, self.fields = name, CASES[name]
        images = cases_lib.images(self.fields)
        self.path = str(Path(folder) / f"{name}.npy")
        np.save(self.path, images)
        self.ours = Ours(self.fields, images)
        self.compiled = timing.compile_step(self.ours, "train")
        timing.seconds(self.ours, "train", 3)
        one = timing.seconds(self.ours, "train", 5) / 5
        self.steps = max(3, round(_SECONDS / one))

    def ours_per_step(self) -> float:
        """Seconds of one of our steps, in one turn."""
        return timing.seconds(self.ours, "train", self.steps) / self.steps

    def beside(self, peer: Peer, mode: str, rounds: int) -> dict[str, Any]:
        """The peer's rate in a mode, in turns with our training."""
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(self.ours_per_step())
            took = peer.run(self.fields, self.path, mode, self.steps)
            theirs.append(took / self.steps)
        return timing.compared(self.fields["batch"], ours, theirs)

    def alone(self, rounds: int) -> dict[str, Any]:
        """Our rate, and the time of the augmentation by itself."""
        times = [self.ours_per_step() for _ in range(rounds)]
        rate = self.fields["batch"] / float(np.median(times))
        ours = self.ours
        two = (ours.augment, (ours.key, ours.images[: ours.batch]))
        return {
            "train": self.compiled | {"images_per_s": rate},
            "parts_ms": {"augment": timing.milliseconds(*two, rounds, calls=20)},
        } | timing.rates(ours, self.fields, rate)


def measure(
    names: list[str], rounds: int, peer: Peer | None, folder: str
) -> Iterator[dict[str, Any]]:
    """Yields parts of each case's result, each with its "case", as they come."""
    measured = {}
    for name in names:
        case = measured[name] = Case(name, folder)
        yield {"case": name, **case.fields, **case.alone(rounds)}
    if peer is None:
        return
    simclr = [x for x in measured.values() if x.fields["method"] == "simclr"]
    for mode in ("step", "compiled"):
        for case in simclr:
            if mode == "step" or case.fields["precision"] == "bfloat16":
                result = case.beside(peer, mode, rounds)
                yield {"case": case.name, f"peer_{mode}": result}
    if _LOADED in measured:
        result = measured[_LOADED].beside(peer, "train", 1)
        yield {"case": _LOADED, "peer_train": result}
