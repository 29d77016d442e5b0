"""Shows how far a training is: speed and time left, in one line on the terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simclr_jax.training.terminal import CLEAR, draw, duration, is_terminal

__all__ = ["Progress", "duration"]

# A terminal redraws its line; elsewhere (a file, CI) one is printed every 10 s.
_PRINT_SECONDS = 10.0


class Progress:
    """The clock and the status line of one training.

    Args:
      name: shown first, for example "finetune pretrained".
      start: steps done before this process.
      end: the last step.
      steps_per_epoch, batch_size: to convert steps to epochs and images.
      seconds: training seconds spent before this process.
      silent: print nothing.
    """

    def __init__(
        self,
        name: str,
        start: int,
        end: int,
        steps_per_epoch: int,
        batch_size: int,
        seconds: float,
        silent: bool = False,
    ):
        self._silent = silent
        self._name, self._end = name, end
        self._steps_per_epoch, self._batch_size = steps_per_epoch, batch_size
        self._before = seconds
        now = time.monotonic()
        self._began = now
        self._idle = 0.0  # seconds not spent on steps: evaluations, saving
        self._apart = 0.0  # those of them that are not this training's at all
        # Where speed is measured from: the end of compilation, then the last record.
        self._mark_step, self._mark_busy = start, 0.0
        self._first_step, self._first_busy = start, 0.0
        self._printed = -_PRINT_SECONDS
        self._terminal = is_terminal()
        if self._terminal and start and not silent:
            said = f"{CLEAR}{name}: continuing from step {start}"
            print(said, file=sys.stderr, flush=True)
        self._show(f"{name}: compiling ...")

    def seconds(self) -> float:
        """Seconds since the training began, earlier processes included.

        Pauses count, except those that were `apart`.
        """
        return self._before + time.monotonic() - self._began - self._apart

    def compiled(self, steps: int = 1) -> None:
        """Marks the end of the first call, of `steps`: speed is measured from here."""
        self._first_step = self._mark_step = self._mark_step + steps
        self._first_busy = self._mark_busy = self._busy()

    @contextmanager
    def paused(self, doing: str, *, apart: bool = False) -> Iterator[None]:
        """Leaves the time spent inside out of the training speed.

        Args:
          doing: shown meanwhile.
          apart: leave it out of `seconds` too.
        """
        begin = time.monotonic()
        if self._terminal:
            self._show(f"{self._name}: {doing} ...")
        try:
            yield
        finally:
            spent = time.monotonic() - begin
            self._idle += spent
            self._apart += spent if apart else 0.0

    def advance(self, step: int, loss: float) -> dict[str, float]:
        """Call at each record; returns its `images_per_second` and `seconds`."""
        busy = self._busy()
        speed = {}
        if step > self._mark_step and busy > self._mark_busy:
            rate = (step - self._mark_step) / (busy - self._mark_busy)
            speed["images_per_second"] = round(rate * self._batch_size, 2)
        self._mark_step, self._mark_busy = step, busy
        self._print(step, loss, busy, speed)
        return speed | {"seconds": round(self.seconds(), 3)}

    def warn(self, text: str) -> None:
        """Prints a warning on a line of its own, which stays."""
        start = CLEAR if self._terminal else ""
        print(f"{start}warning: {self._name} {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._terminal and not self._silent:
            print(file=sys.stderr)

    def _busy(self) -> float:
        return time.monotonic() - self._began - self._idle

    def _print(self, step: int, loss: float, busy: float, speed: dict) -> None:
        now = time.monotonic()
        due = now - self._printed >= _PRINT_SECONDS
        if not (self._terminal or due or step == self._end):
            return
        self._printed = now
        epochs = f"{self._end / self._steps_per_epoch:.1f}".removesuffix(".0")
        line = (
            f"step {step}/{self._end}  epoch {step / self._steps_per_epoch:.1f}"
            f"/{epochs}  loss {loss:.4f}"
        )
        if speed:
            line += f"  {speed['images_per_second']:.0f} images/s"
        left = ""
        if step > self._first_step and step < self._end:
            per_step = (busy - self._first_busy) / (step - self._first_step)
            left = f"  ETA {duration(per_step * (self._end - step))}"
        elif step == self._end:
            left = f"  in {duration(self.seconds())}"
        line += left
        if self._terminal and not self._silent:
            short = f"step {step}/{self._end}  loss {loss:.4f}{left}"
            draw(self._name, line, step / self._end, short=short)
        else:
            self._show(f"{self._name}  {line}")

    def _show(self, line: str) -> None:
        if self._silent:
            return
        if self._terminal:
            draw(line, "")
        else:
            print(line, file=sys.stderr, flush=True)
