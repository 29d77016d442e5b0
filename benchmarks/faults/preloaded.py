"""What the processes of forked.py have imported before they are forked."""

import os

import tiny

os.environ.update(tiny.ENVIRONMENT)  # before jax reads it

from simclr_jax import startup

startup.set_cpu_flags()

import simclr_jax.stages.run  # noqa: E402

__all__ = ["simclr_jax"]
