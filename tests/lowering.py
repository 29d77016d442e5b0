"""What can be checked of a GPU program without a GPU: XLA's input for CUDA."""

from collections.abc import Iterator
from typing import Any

import jax


def assert_lowers_for_cuda(function, *arguments: Any, donates: bool = False) -> None:
    """Checks that a jitted function lowers for CUDA and stays on the device.

    Args:
      function: jitted.
      arguments: arrays or `jax.ShapeDtypeStruct`s.
      donates: the first argument's every leaf must be donated, and XLA must be told
        which output takes its memory (or, with devices, that it may reuse it).
    """
    traced = function.trace(*arguments)
    host = {name for name in primitives(traced.jaxpr) if _reaches_the_host(name)}
    assert not host, f"the program calls back to the host: {sorted(host)}"

    lowered = traced.lower(lowering_platforms=("cuda",))
    if donates:
        text, wanted = lowered.as_text(), len(jax.tree.leaves(arguments[0]))
        reused = text.count("tf.aliasing_output") + text.count("jax.buffer_donor")
        assert reused == wanted, f"{reused} of {wanted} leaves are donated"


def primitives(jaxpr: Any) -> Iterator[str]:
    """The name of every primitive in a jaxpr, in loops and calls too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(inner, "eqns"):
                    yield from primitives(inner)


def _reaches_the_host(primitive: str) -> bool:
    return any(word in primitive for word in ("callback", "debug", "infeed", "outfeed"))
