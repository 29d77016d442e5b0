"""An encoder in the formats of others: `export.torch`, `export.onnx`, ..."""

from simclr_jax.export import onnx, safetensors, stablehlo, torch

__all__ = ["onnx", "safetensors", "stablehlo", "torch"]
