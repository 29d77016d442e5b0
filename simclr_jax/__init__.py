"""Contrastive and self-supervised image pretraining in JAX.

The losses need nothing but jax: `from simclr_jax import nt_xent`. `pretrain` trains an
encoder and `load` gives it back. The package imports nothing at first, not even jax; it
loads each name when that is used.
"""

# The launcher comes through here before it listens to signals: no slow imports.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simclr_jax.launch.python import pretrain
    from simclr_jax.losses import (
        barlow_twins,
        byol_regression,
        contrastive_accuracy,
        distillation,
        info_nce,
        nt_xent,
        vicreg,
    )
    from simclr_jax.pretrained import Encoder, load
    from simclr_jax.startup import set_cpu_flags

__version__ = "0.1.0"

__all__ = [
    "Encoder",
    "barlow_twins",
    "byol_regression",
    "contrastive_accuracy",
    "distillation",
    "info_nce",
    "load",
    "nt_xent",
    "pretrain",
    "set_cpu_flags",
    "vicreg",
]
# Where a name lives; the others are losses.
_HOMES = {
    "Encoder": "pretrained",
    "load": "pretrained",
    "pretrain": "launch.python",
    "set_cpu_flags": "startup",
}

# Modules that need only `import simclr_jax`, as in `simclr_jax.losses.nt_xent`.
_MODULES = (
    "augment",
    "encoders",
    "export",
    "heads",
    "losses",
    "methods",
    "pretrained",
)


def __getattr__(name: str) -> "Any":
    import importlib

    if name in __all__:
        module = _HOMES.get(name, "losses")
        return getattr(importlib.import_module(f"simclr_jax.{module}"), name)
    if name in _MODULES:
        return importlib.import_module(f"simclr_jax.{name}")
    raise AttributeError(f"module 'simclr_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES])
