"""The front door: the command `simclr-jax`, and `simclr_jax.pretrain` in Python.

It is a docstring only: what must be set before jax is imported comes before all else.
"""
