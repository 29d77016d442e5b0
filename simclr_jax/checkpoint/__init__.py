"""Checkpoints: written whole or not at all, and checked whenever they are read."""

from simclr_jax.checkpoint.background import BackgroundSaver
from simclr_jax.checkpoint.store import read_meta, restore, save, steps, tidy

__all__ = ["BackgroundSaver", "read_meta", "restore", "save", "steps", "tidy"]
