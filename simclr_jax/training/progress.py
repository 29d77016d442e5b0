"""Shows how far a training is: speed and time left, in one line on the terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simclr_jax.training.terminal import CLEAR, about, draw, duration, is_terminal

__all__ = ["Progress", "duration"]

# A terminal redraws its line; elsewhere (a file, CI) one is printed every 10 s.
_PRINT_SECONDS, _DRAW_SECONDS = 10.0, 1.0
# The whole time is foretold after so many seconds of steps, if as many are left.
_TIMED_SECONDS, _LEFT_SECONDS = 5.0, 60.0


class Progress:
    """The clock and the status line of one training.

    Args:
      name: shown first, for example "finetune pretrained".
      start: steps done before this process.
      end: the last step.
      steps_per_epoch, batch_size: to convert steps to epochs and images.
      seconds: training seconds spent before this process.
      silent: print nothing.
      foretell: say once how long the whole training takes, in a line that ends with
        this text; None: don't.
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
        foretell: str | None = None,
    ):
        self._silent = silent
        self._foretell = None if silent else foretell
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
        self._told = now
        self._terminal = is_terminal()
        # Between records a line comes when none has for so long.
        self._patience = _DRAW_SECONDS if self._terminal else _PRINT_SECONDS
        if self._terminal and start and not silent:
            self._say(f"{name}: continuing from step {start}")
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
        self._told = time.monotonic()

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
        speed, rate = {}, None
        if step > self._mark_step and busy > self._mark_busy:
            per_second = (step - self._mark_step) / (busy - self._mark_busy)
            rate = per_second * self._batch_size
            speed["images_per_second"] = round(rate, 2)
        self._mark_step, self._mark_busy = step, busy
        if self._foretell is not None:
            self._say_whole_time(step, busy, self._foretell)
        now = time.monotonic()
        due = now - self._printed >= _PRINT_SECONDS
        if self._terminal or due or step == self._end:
            self._print(step, loss, busy, rate)
        return speed | {"seconds": round(self.seconds(), 3)}

    def passed(self, step: int, loss: Callable[[], float]) -> None:
        """Call when a step is done; shows it if nothing was shown for a while.

        Records alone would leave a slow training silent for minutes.

        Args:
          loss: gives the step's loss; called only if it is shown.
        """
        busy = self._busy()
        if self._silent or step <= self._mark_step or busy <= self._mark_busy:
            return
        if self._foretell is not None:
            self._say_whole_time(step, busy, self._foretell)
        if time.monotonic() - self._told < self._patience:
            return
        rate = (step - self._mark_step) / (busy - self._mark_busy)
        self._print(step, loss(), busy, rate * self._batch_size)

    def warn(self, text: str) -> None:
        """Prints a warning on a line of its own, which stays."""
        self._say(f"warning: {self._name} {text}")

    def close(self) -> None:
        if self._terminal and not self._silent:
            print(file=sys.stderr)

    def _say(self, line: str) -> None:
        start = CLEAR if self._terminal else ""
        print(f"{start}{line}", file=sys.stderr, flush=True)

    def _say_whole_time(self, step: int, busy: float, after: str) -> None:
        """Says once how long the training takes, when enough steps were timed."""
        if step <= self._first_step or busy - self._first_busy < _TIMED_SECONDS:
            return
        self._foretell = None
        left = self._per_step(step, busy) * (self._end - step)
        if left >= _LEFT_SECONDS:
            whole = about(self.seconds() + left)
            self._say(f"{self._name} takes about {whole} in all{after}")

    def _per_step(self, step: int, busy: float) -> float:
        """Seconds, over all steps since compilation."""
        return (busy - self._first_busy) / (step - self._first_step)

    def _busy(self) -> float:
        return time.monotonic() - self._began - self._idle

    def _print(self, step: int, loss: float, busy: float, rate: float | None) -> None:
        """The line of a step; `rate` is in images per second."""
        self._printed = self._told = time.monotonic()
        epochs = f"{self._end / self._steps_per_epoch:.1f}".removesuffix(".0")
        line = (
            f"step {step}/{self._end}  epoch {step / self._steps_per_epoch:.1f}"
            f"/{epochs}  loss {loss:.4f}"
        )
        if rate is not None:
            line += f"  {rate:.0f} images/s"
        left = ""
        if step > self._first_step and step < self._end:
            rest = self._per_step(step, busy) * (self._end - step)
            left = f"  ETA {duration(rest)}"
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
