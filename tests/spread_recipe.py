"""tests/tiny_recipe.py with `config.fsdp`, which spreads even its small arrays.

Each training prints how much of its last state the first device holds.
"""

from tests import tiny_recipe


def get_config():
    _spread_small_arrays()
    config = tiny_recipe.get_config()
    config.fsdp = True
    return config


def _spread_small_arrays():
    import jax

    from simclr_jax import devices
    from simclr_jax.stages import fit

    run, devices.SPREAD_ABOVE = fit.run, 256

    def and_print(*args):
        state = run(*args)
        arrays = jax.tree.leaves(state)
        here = sum(x.addressable_shards[0].data.nbytes for x in arrays)
        print(f"share: {here / sum(x.nbytes for x in arrays):.3f}")
        return state

    fit.run = and_print
