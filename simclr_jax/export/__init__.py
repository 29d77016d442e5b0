"""An encoder in the formats of others: `export.safetensors`, `export.torch`."""

from simclr_jax.export import safetensors, torch

__all__ = ["safetensors", "torch"]
