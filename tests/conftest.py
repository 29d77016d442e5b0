"""Shared test set-up: two virtual CPU devices, no silent rank promotion."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# `configs` is a folder of recipes, not part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
