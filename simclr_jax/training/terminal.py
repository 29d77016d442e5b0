"""What a run draws on a terminal: one line at the bottom, drawn again and again.

rich gives the bar its look; without it the line has no bar. Nothing here prints where
stderr is not a terminal. No thread draws, and the cursor stays: a run that a signal
ends at once leaves the terminal as it was.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
CLEAR = "\r\033[K"  # to the start of the line, and nothing on it
_WIDEST, _NARROWEST = 30, 8  # columns of a bar
# A phase that is shorter draws nothing, and none draws more often than that.
_PATIENCE, _PERIOD = 2.0, 0.2


def is_terminal() -> bool:
    """Whether someone looks."""
    return sys.stderr.isatty()


def _columns() -> int:
    """The width of the terminal that stderr is; stdout may be a file."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def draw(name: str, text: str, done: float | None = None, *, short: str = "") -> None:
    """Draws `name`, a bar and `text` in one line, in the place of the line before.

    A longer line would wrap, and its first row would stay: it is shortened, loses its
    bar, and then its end.

    Args:
      done: the share that is done, 0 to 1; None: no bar.
      short: stands for `text` where that leaves no room for the bar.
    """
    columns = _columns() - 1
    if short and len(f"{name}  {text}") + 2 + _NARROWEST > columns:
        text = short
    line = f"{name}  {text}" if text else name
    room = min(columns - len(line) - 2, _WIDEST)
    drawn = ""
    if done is not None and room >= _NARROWEST:
        drawn = _bar(done, room)
    line = f"{name}  {drawn}  {text}" if drawn else line[:columns]
    print(f"{CLEAR}{line}", end="", file=sys.stderr, flush=True)


def _bar(done: float, width: int) -> str:
    """A bar of `width` columns in the terminal's colours; "" without rich."""
    try:
        from rich.console import Console
        from rich.progress_bar import ProgressBar
    except ImportError:
        return ""
    console = Console(file=sys.stderr, width=width, height=1, force_jupyter=False)
    with console.capture() as captured:
        console.print(ProgressBar(1.0, min(done, 1.0), width), end="")
    return captured.get()


@contextmanager
def working(doing: str) -> Iterator[None]:
    """Shows what is done inside, until it is done or something else is drawn."""
    if is_terminal():
        draw(f"{doing} ...", "")
    try:
        yield
    finally:
        if is_terminal():
            print(CLEAR, end="", file=sys.stderr, flush=True)


def counted(doing: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """Passes items on; draws how many of them came and the time left, after 2 s."""
    if not is_terminal():
        yield from items
        return
    began = time.monotonic()
    last = began + _PATIENCE - _PERIOD
    for number, item in enumerate(items):
        now = time.monotonic()
        if number and now - last >= _PERIOD:
            last, left = now, (now - began) / number * (total - number)
            draw(doing, f"{number}/{total}  ETA {duration(left)}", number / total)
        yield item


def duration(seconds: float) -> str:
    """`75` -> "1:15", `3675` -> "1:01:15"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def about(seconds: float) -> str:
    """`1500` -> "25 minutes", `9000` -> "2.5 hours"; no more digits than are known."""
    if seconds < 100 * 60:
        number, unit = f"{seconds / 60:.0f}", "minute"
    elif seconds < 48 * 3600:
        number, unit = f"{seconds / 3600:.1f}".removesuffix(".0"), "hour"
    else:
        number, unit = f"{seconds / 86400:.1f}".removesuffix(".0"), "day"
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"
