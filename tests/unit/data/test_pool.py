"""A pool of threads gives results in order, works ahead, and ends with its iterator."""

import threading
import time

import pytest

from simclr_jax.data import pool


def ours() -> list[threading.Thread]:
    return [x for x in threading.enumerate() if x.name.startswith("simclr_jax_read")]


def ended() -> bool:
    """Whether all threads of pools end soon."""
    for thread in ours():
        thread.join(10)
    return not ours()


def test_results_have_the_order_of_the_items():
    """Though the first takes longest."""

    def slow(k):
        time.sleep(0.05 / (k + 1))
        return k * k

    found = list(pool.in_order(slow, range(12), ahead=5))
    assert found == [k * k for k in range(12)]
    assert ended()


def test_it_works_ahead_but_not_further():
    called, reached = [], threading.Event()

    def note(k):
        called.append(k)
        if len(called) == 5:  # one asked for, four ahead
            reached.set()
        return k

    results = pool.in_order(note, range(100), ahead=4)
    assert not called  # nothing runs before the first is asked for
    assert next(results) == 0
    assert reached.wait(10)
    time.sleep(0.05)
    assert sorted(called) == list(range(5))
    results.close()


@pytest.mark.parametrize("how", ["dropped", "closed", "failed"])
def test_threads_end_with_the_iterator(how):
    def work(k):
        if how == "failed" and k == 3:
            raise ValueError("three")
        return k

    results = pool.in_order(work, range(10_000), ahead=64)
    assert next(results) == 0
    assert ours()
    if how == "dropped":
        del results
    elif how == "closed":
        results.close()
    else:
        with pytest.raises(ValueError, match="three"):
            list(results)
    assert ended()


def test_an_error_comes_in_its_place():
    """Not before the results ahead of it, although it is known by then."""

    def work(k):
        if k == 2:
            raise ValueError("two")
        time.sleep(0.02)
        return k

    results = pool.in_order(work, range(6), ahead=6)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
