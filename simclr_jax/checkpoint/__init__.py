"""Checkpoints: whole or absent, never wrong in silence."""

from simclr_jax.checkpoint.store import read_meta, restore, save, steps

__all__ = ["read_meta", "restore", "save", "steps"]
