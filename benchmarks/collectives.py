"""Reads the collectives out of the text of an HLO program: what devices send."""

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

_NAMES = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
_NAMES += "|collective-broadcast|ragged-all-to-all"
# %all-to-all.1 = (f32[1,8]{1,0}, f32[1,8]{1,0}) all-to-all(...)
_COLLECTIVE = re.compile(rf" = (.+?) ({_NAMES})(-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+(\d*)\w*)\[([\d,]*)\]")
# %region_1.2 (x: f32[]) -> f32[] {
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|\w+_computations?)=(\{[^}]*\}|%?[\w.-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_GROUPS = re.compile(
    r"replica_groups=(\{\{[\d,]*\}|\[[\d,]+\]|mesh\[[^]]*\].*? \{[^}]*\})"
)
_OPERATION = re.compile(r'op_name="([^"]*)"')


class Array(NamedTuple):
    """One array of a collective's result, on one device."""

    kind: str  # "all-reduce", ...
    dtype: str  # as HLO names it
    shape: tuple[int, ...]
    nbytes: int
    devices: int  # how many exchange data with each other; 0: all of the program's
    operation: str  # op_name: what in the source it computes; "" if unknown
    instruction: int  # arrays of one instruction have the same number
    times: int  # how often a run of the program executes it


def sent(text: str) -> list[tuple[str, int]]:
    """`(collective, bytes)` of each array that a program's collectives return.

    Each instruction counts once, also in a loop; `executed` counts the runs.
    """
    lines = enumerate(text.splitlines())
    return [(x.kind, x.nbytes) for number, line in lines for x in _arrays(line, number)]


def executed(text: str) -> list[Array]:
    """The arrays that a program's collectives return, with how often each runs.

    A loop's body runs as often as the compiler says (`known_trip_count`) or, where it
    has not said so yet, as often as the loop's condition compares with: `jax.lax.scan`
    and `map` count from 0. A branch counts as taken.

    Raises:
      ValueError: a loop with a collective inside has no such number.
    """
    bodies, entry = _computations(text)
    times: dict[str, int] = dict.fromkeys(bodies, 0)

    def visit(name: str, count: int) -> None:
        times[name] += count
        for _, line in bodies[name]:
            for called, runs in _calls(line, bodies):
                if talks[called]:
                    if runs is None:
                        raise ValueError(f"how often does it run? {line.strip()[:200]}")
                    visit(called, count * runs)

    talks: dict[str, bool] = {}
    for name in bodies:
        _talks(name, bodies, talks)
    visit(entry, 1)
    return [
        array._replace(times=times[name])
        for name, lines in bodies.items()
        for number, line in lines
        for array in _arrays(line, number)
        if times[name]
    ]


def programs(lowered: Any, finish: bool) -> tuple[str, str]:
    """The text of two programs that the CPU's compiler makes of a lowered step.

    Args:
      lowered: of a jitted function named `step`.
      finish: wait until the compiler ends, of whose work only the first part is needed.

    Returns:
      The program that XLA's partitioner makes, and the one of which code is made.
    """
    folder = tempfile.mkdtemp()
    options = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd"}
    work = threading.Thread(target=lowered.compile, args=(options,), daemon=True)
    work.start()
    # Written after both.
    last = "*jit_step*cpu_after_optimizations-buffer-assignment.txt"
    while work.is_alive() and not list(Path(folder).glob(last)):
        time.sleep(0.1)
    names = ("after_spmd-partitioning*", "cpu_after_optimizations.txt")
    texts = [next(Path(folder).glob(f"*jit_step*{name}")).read_text() for name in names]
    if finish:
        work.join()
        shutil.rmtree(folder)
    return texts[0], texts[1]


def _arrays(line: str, number: int) -> Iterator[Array]:
    found = _COLLECTIVE.search(line)
    if not found:
        return
    shapes, kind, begins = found.groups()
    arrays = _ARRAY.findall(shapes)
    if begins and kind != "all-reduce":
        # These return (what is sent, what is received, counters).
        arrays = [x for x in arrays if x[0] != "u32" or x[2]]
        arrays = arrays[len(arrays) // 2 :]
    operation, group = _OPERATION.search(line), _group(line, kind)
    for dtype, bits, lengths in arrays:
        shape = tuple(int(length) for length in lengths.split(",") if length)
        # pred has no number and takes a byte.
        size = prod(shape) * max(int(bits or 8) // 8, 1)
        name = operation[1] if operation else ""
        yield Array(kind, dtype, shape, size, group, name, number, 1)


def _group(line: str, kind: str) -> int:
    """How many devices a group has; 2 for a permutation, which goes from one to one."""
    if kind == "collective-permute":
        return 2
    found = _GROUPS.search(line)
    if not found:
        return 0
    text = found[1]
    if text.startswith("mesh"):  # mesh['a'=8,'b'=4] {'b'}, or a part: {'b':(2)2}
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", text))
        chosen = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", text[text.rindex("{") :])
        return prod(int(part or sizes[axis]) for axis, part in chosen)
    numbers = re.findall(r"\d+", text)
    # [groups,devices]<=[...] or {{0,1},{2,3}}
    return int(numbers[-1]) if text.startswith("[") else len(numbers)


def _computations(text: str) -> tuple[dict[str, list[tuple[int, str]]], str]:
    """The numbered lines of each computation, and the name of the first to run."""
    bodies: dict[str, list[tuple[int, str]]] = {}
    entry = name = ""
    for number, line in enumerate(text.splitlines()):
        if begin := _COMPUTATION.match(line):
            name = begin[2]
            bodies[name] = []
            entry = name if begin[1] else entry
        elif name:
            bodies[name].append((number, line))
    if not entry:
        raise ValueError("an HLO program has an ENTRY")
    return bodies, entry


def _talks(name: str, bodies: dict, known: dict[str, bool]) -> bool:
    """Whether a computation, or one that it calls, has a collective."""
    if name not in known:
        known[name] = any(
            _COLLECTIVE.search(line)
            or any(
                [_talks(called, bodies, known) for called, _ in _calls(line, bodies)]
            )
            for _, line in bodies[name]
        )
    return known[name]


def _calls(line: str, bodies: dict) -> Iterator[tuple[str, int | None]]:
    """The computations that an instruction calls, and how often."""
    looping = " while(" in line
    for names in _CALLED.findall(line):
        for name in re.findall(r"[\w.-]+", names):
            if name in bodies:
                yield name, _trips(line, bodies) if looping else 1


def _trips(line: str, bodies: dict) -> int | None:
    if known := _TRIPS.search(line):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", line)
    lines = "\n".join(text for _, text in bodies[condition[1]]) if condition else ""
    limits = re.findall(r"constant\((\d+)\)", lines)
    return int(limits[0]) if len(limits) == 1 and "direction=LT" in lines else None
