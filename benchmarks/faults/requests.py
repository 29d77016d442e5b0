"""300 random requests: any field, any value that nobody expects."""

import random
from pathlib import Path

from benchmarks.faults.lab import Kind, Lab, Wrong
from benchmarks.faults.numbers import SHORT
from simclr_jax.config.fields import every_field, every_type

NUMBERS = ("-1", "0", "1", "7.5", "1e39", "-1e39", "1e-320", "nan", "inf", "-inf")
NUMBERS += ("99999999999999999999", "300000000", "0x10", "1_000", "-0.0", "2147483648")
TEXTS = ("", "None", "True", "no such", "../../x", "/", "/dev/null", ".", "~nobody/x")
TEXTS += ("a" * 300, "\u00e9\u4e16", "a\nb", "{row}", "%s", "x.npz", "x.py", "-", "'")
TUPLES = (
    "()",
    "(1,)",
    "(1, 2)",
    "(2, 1)",
    "(nan, inf)",
    "(-1, 0.5)",
    "('knn',)",
    "[1]",
)
TUPLES += ("('knn', 'knn')", "(1, 2, 3)", "{}", "(((", "('report',)")
VALUES = (*NUMBERS, *TEXTS, *TUPLES)


def _value(rng: random.Random, kind: type) -> str:
    """Mostly of the field's own type: such a value comes further."""
    own = {int: NUMBERS, float: NUMBERS, str: TEXTS, tuple: TUPLES}.get(kind, VALUES)
    return rng.choice(own if rng.random() < 0.7 else VALUES)


def request(lab: Lab, rng: random.Random, folder: Path, number: int) -> str:
    """Every 15th is run, for two steps; the others stop when they would begin."""
    fields = rng.sample(sorted(every_field()), rng.choice((1, 1, 1, 2, 3)))
    given = {name: _value(rng, every_type()[name]) for name in fields}
    flags = [f"--config.{name}={value}" for name, value in given.items()]
    run = number % 15 == 0
    whole = [*lab.flags(), *(SHORT if run else ()), *flags]
    done = lab.request(*whole, workdir=folder / "run", run=run)
    done.require(0, 2, 3, 75)
    if done.code == 2 and "config." not in done.stderr:
        raise Wrong(f"the line names no field; {done.tail()}")
    return f"{' '.join(flags)[:120]!r}: {done.code}"


KINDS = (
    Kind(
        "requests",
        "one to three fields with hostile values: 0, 2, 3 or 75, one line, no "
        "traceback; a refusal names the field",
        300,
        request,
    ),
)
