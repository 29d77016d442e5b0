"""Calls a function in threads and gives the results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def threads() -> int:
    """How many threads a pool has: two more than cores, as some wait for a disk."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) + 2
    return (os.cpu_count() or 1) + 2


def in_order(
    function: Callable[[Any], Any], items: Iterable[Any], *, ahead: int
) -> Iterator[Any]:
    """`function` of each item, in the order of the items.

    It helps where the function leaves Python's global lock, as Pillow's decoders do.
    The threads start at the first result asked for. They end with the last one, at an
    error, or when the iterator is closed or dropped.

    Args:
      function: is called in several threads at once.
      items: taken one by one, in the caller's thread.
      ahead: how many results are worked on before they are asked for.

    Raises:
      Whatever the function raises, in its place in the order.
    """
    pool = ThreadPoolExecutor(threads(), "simclr_jax_read")
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
