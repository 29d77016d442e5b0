"""Where a recipe starts: every field with its default, and the sections to replace.

The fields, their meanings and sources are in `simclr_jax/config/defaults.py`.
"""

from simclr_jax.config.defaults import crop_and_flip, get_config, optimizer, views

__all__ = ["crop_and_flip", "get_config", "optimizer", "views"]
