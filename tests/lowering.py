"""Whether a program can be compiled for a GPU, without one: JAX lowers it for CUDA."""

import re
from typing import Any

import jax


def assert_lowers_for_cuda(function: Any, *arguments: Any, donates: bool = False):
    """The jitted `function` lowers, and never calls back to the host.

    Args:
      function: a jitted function.
      arguments: its arguments, arrays or `jax.ShapeDtypeStruct`s.
      donates: it must donate something, and reuse each donated input for an output.
    """
    module = jax.export.export(function, platforms=["cuda"])(*arguments).mlir_module()
    targets = re.findall(r"custom_call\s+@(\w+)", module)
    targets += re.findall(r'call_target_name\s*=\s*"(\w+)"', module)
    assert not [target for target in targets if "callback" in target]
    if donates:
        inputs = jax.tree.leaves(function.trace(*arguments).args_info)
        donated = sum(leaf.donated for leaf in inputs)
        assert donated, "nothing is donated"
        assert module.count("tf.aliasing_output") == donated, "a copy is made"
