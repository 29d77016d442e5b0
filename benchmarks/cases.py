"""The train steps that throughput.py and profile_step.py measure, ready to run."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simclr_jax import augment, data, methods
from simclr_jax import training as train
from simclr_jax.encoders import ResNet
from simclr_jax.heads import Projector
from simclr_jax.stages import pretrain

# What a case leaves out: these. The peer gets the same fields (peer_simclr.py).
_DEFAULTS = {"width": 1.0, "method": "simclr", "precision": "float32", "blur": 0.0}

CPU = {
    "r18_quarter": {"depth": 18, "batch": 256, "size": 32, "width": 0.25},
    "r18": {"depth": 18, "batch": 64, "size": 32},
    "r50": {"depth": 50, "batch": 32, "size": 32},
    "r18_96": {"depth": 18, "batch": 32, "size": 96},
}
_R18 = {"depth": 18, "batch": 512, "size": 32, "precision": "bfloat16"}
_R50 = {"depth": 50, "batch": 200, "size": 32, "precision": "bfloat16"}
GPU = {
    "r18_bf16": _R18,
    "r50_bf16": _R50,
    "r50_f32": _R50 | {"precision": "float32"},
    "r50_224_bf16": _R50 | {"batch": 128, "size": 224, "blur": 0.5},
    "moco_bf16": _R18 | {"method": "moco"},
    "byol_bf16": _R18 | {"method": "byol"},
}
CASES = {name: _DEFAULTS | fields for name, fields in (CPU | GPU).items()}

_OPTIONS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "moco": {"queue_size": 4096},
    "byol": {},
}


def views(case: dict[str, Any]) -> tuple[augment.View, augment.View]:
    """SimCLR's views: its CIFAR-10 ones, and with blur its ImageNet ones."""
    view = augment.View()
    if case["blur"]:
        strength = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
        view = augment.View(blur=case["blur"], **strength)
    return view, view


def images(case: dict[str, Any]) -> np.ndarray:
    """uint8 noise: as many images as eight batches have, but at most 2,048."""
    count = max(2 * case["batch"], min(8 * case["batch"], 2048))
    shape = (count, case["size"], case["size"], 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


class Ours:
    """A case's step, as launch.py runs it ("train") or on two given views ("step")."""

    def __init__(self, case: dict[str, Any], pictures: np.ndarray):
        batch, size = case["batch"], case["size"]
        self.batch, self.images = batch, jnp.asarray(pictures)
        self.method = methods.make(
            case["method"],
            ResNet(
                case["depth"],
                case["width"],
                stem="cifar" if size < 96 else "imagenet",
                dtype=jnp.dtype(case["precision"]),
            ),
            projector=Projector(dim=128),
            num_examples=len(pictures),
            **_OPTIONS[case["method"]],
        )
        self.key, self.tx = jax.random.key(0), optax.adam(1e-3)
        two = views(case)
        self.augment = partial(augment.two_views, views=two, size=size)
        pair = self.images[: 2 * batch].astype(jnp.float32) / 255
        self.views = (pair[:batch], pair[batch:])
        index = jnp.arange(batch)
        self.batches = {
            "train": {"index": index, "dataset": {"image": self.images}},
            "step": {"index": index, "views": self.views},
        }
        self.losses = {
            "train": pretrain.make_loss(self.method, two, size, 0),
            "step": lambda params, state, key, batch: self.method.loss(
                params, state, key, batch["views"], batch["index"]
            ),
        }
        self.start = jax.jit(
            lambda: train.init_state(
                *self.method.init(self.key, self.views[0][:2]), self.tx
            )
        )
        self.compiled: dict[str, Any] = {}
        self.states: dict[str, Any] = {}

    def lower(self, mode: str):
        """The mode's step, traced for the device at hand."""

        def update(params, model_state, step):
            return self.method.update(params, model_state, step / 1000)

        prepare = data.take if mode == "train" else None
        step = train.make_step(self.losses[mode], self.tx, update, prepare=prepare)
        state = jax.eval_shape(self.start)
        return step.lower(state, self.key, self.batches[mode])

    def run(self, mode: str, steps: int) -> Any:
        """Takes so many steps of a compiled mode; returns the last metrics."""
        if mode not in self.states:
            self.states[mode] = self.start()
        state, metrics = self.states[mode], None
        for _ in range(steps):
            state, metrics = self.compiled[mode](state, self.key, self.batches[mode])
        jax.block_until_ready(state)
        self.states[mode] = state
        return metrics
