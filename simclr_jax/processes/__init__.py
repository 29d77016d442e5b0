"""The processes of a run: process 0 decides and writes, and all of them end together.

Every process runs the same program on its own devices. A process that branches on what
it alone sees (a file, the clock, a signal, an error) would leave the others waiting for
ever in a collective. `agree` gives all processes the answer of process 0, `StopVote`
tells all of a signal to one, and `leave` ends all with the error of one.

With one process, the default, each of them is what its caller would do without it.
"""

from simclr_jax.processes.agreement import agree, agreed, alone, first_only
from simclr_jax.processes.ending import leave
from simclr_jax.processes.group import count, first, start
from simclr_jax.processes.stopping import StopVote, check_stop_together

__all__ = [
    "StopVote",
    "agree",
    "agreed",
    "alone",
    "check_stop_together",
    "count",
    "first",
    "first_only",
    "leave",
    "start",
]
