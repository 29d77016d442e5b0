"""Checkpoints: written whole or not at all, and checked whenever they are read."""

from simclr_jax.checkpoint.store import read_meta, restore, save, steps

__all__ = ["read_meta", "restore", "save", "steps"]
