"""Networks as pure functions: what the methods, fine-tuning and distillation share.

    network = Network(ResNet(depth=18), Projector())
    params, batch_stats = network.init(key, images)
    (h, z), batch_stats = network.train(params, batch_stats, images)
    levels = network.embed(params, batch_stats, images)  # {"h", "head_1", ..., "z"}

`params` and `batch_stats` (BatchNorm's running statistics) are dicts with one entry for
each module: "encoder" and "projector". A method may add more: BYOL has a "predictor".
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from simclr_jax.heads import Classifier, keep_layers


@dataclass(frozen=True)
class Network:
    """An encoder with a projector on top. All methods are pure.

    Attributes:
      encoder: called as `encoder(images [B, H, W, C], train) -> h [B, F]`.
      projector: called as `projector(h, train) -> z [B, D]`. `embed` and `from_layer`
        need what `simclr_jax.heads.Projector` has: `levels` and `upto`.
    """

    encoder: nn.Module
    projector: nn.Module

    def init(self, key: jax.Array, images: jax.Array) -> tuple[dict, dict]:
        """Draws the weights.

        Args:
          key: for both modules.
          images: [B, H, W, C], only for their shape.

        Returns:
          `(params, batch_stats)`.
        """
        key_encoder, key_projector = jax.random.split(key)
        h, weights, stats = init_module(key_encoder, self.encoder, images)
        params, batch_stats = {"encoder": weights}, {"encoder": stats}
        _, weights, stats = init_module(key_projector, self.projector, h)
        return params | {"projector": weights}, batch_stats | {"projector": stats}

    def train(
        self, params: Any, batch_stats: Any, images: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], dict]:
        """Training mode: `((h [B, F], z [B, D]), new batch_stats)`.

        BatchNorm normalises by these images and updates its running statistics.
        """
        encoder = variables(params, batch_stats, "encoder")
        h, encoder_stats = apply_module(self.encoder, encoder, images, train=True)
        projector = variables(params, batch_stats, "projector")
        z, projector_stats = apply_module(self.projector, projector, h, train=True)
        return (h, z), {"encoder": encoder_stats, "projector": projector_stats}

    def embed(
        self, params: Any, batch_stats: Any, images: jax.Array
    ) -> dict[str, jax.Array]:
        """Inference mode: all levels, `{"h", "head_1", ..., "z"}`, each `[B, ...]`.

        BatchNorm normalises by its running statistics.
        """
        encoder = variables(params, batch_stats, "encoder")
        h = self.encoder.apply(encoder, images, train=False)
        projector = variables(params, batch_stats, "projector")
        levels: Any = self.projector.apply(projector, h, train=False, method="levels")
        return levels

    def embed_state(
        self, params: Any, model_state: Any, images: jax.Array
    ) -> dict[str, jax.Array]:
        """`embed` with the signature of `Method.embed`: takes the whole model_state."""
        return self.embed(params, model_state["batch_stats"], images)

    def from_layer(
        self,
        params: Any,
        batch_stats: Any,
        images: jax.Array,
        layer: int,
        *,
        train: bool,
    ) -> tuple[jax.Array, dict]:
        """The encoder and the first layers of the projector.

        Args:
          params, batch_stats: may lack the projector's layers above `layer`.
          images: [B, H, W, C].
          layer: how many layers of the projector to run; 0 gives h `[B, F]`, all of
            them give z `[B, D]`.
          train: True: BatchNorm normalises by these images and updates its running
            statistics. False: it normalises by the running statistics.

        Returns:
          `(features, new batch_stats)`.
        """
        encoder = variables(params, batch_stats, "encoder")
        h, encoder_stats = apply_module(self.encoder, encoder, images, train=train)
        projector = variables(params, batch_stats, "projector")
        features, projector_stats = apply_module(
            self.projector, projector, h, train=train, upto=layer
        )
        return features, {"encoder": encoder_stats, "projector": projector_stats}


@dataclass(frozen=True)
class ClassifierNetwork:
    """A linear classifier on a layer of a network, trained with all layers below it.

    Attributes:
      network: encoder and projector.
      from_layer: how many of the projector's layers stay below the classifier; 0
        classifies h (SimCLRv2, section 2: fine-tuning from a middle layer of the head).
      num_classes: C.
    """

    network: Network
    from_layer: int
    num_classes: int

    def init(
        self, key: jax.Array, params: Any, model_state: Any, images: jax.Array
    ) -> tuple[dict, dict]:
        """Puts a new classifier, which starts at zero, on a trained network.

        Args:
          key: for the classifier.
          params, model_state: of a method; layers above `from_layer` are dropped.
          images: [B, H, W, C], only for their shape.

        Returns:
          `(params, model_state)` as `logits` takes them.
        """
        params, batch_stats = (
            {
                "encoder": tree["encoder"],
                "projector": keep_layers(tree["projector"], self.from_layer),
            }
            for tree in (params, model_state["batch_stats"])
        )
        features, _ = self.network.from_layer(
            params, batch_stats, images, self.from_layer, train=False
        )
        classifier = Classifier(self.num_classes).init(key, features)["params"]
        return params | {"classifier": classifier}, {"batch_stats": batch_stats}

    def logits(
        self, params: Any, model_state: Any, images: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict]:
        """`(logits [B, C], new model_state)` of images `[B, H, W, C]`."""
        features, batch_stats = self.network.from_layer(
            params, model_state["batch_stats"], images, self.from_layer, train=train
        )
        classifier = Classifier(self.num_classes)
        logits: Any = classifier.apply({"params": params["classifier"]}, features)
        return logits, {"batch_stats": batch_stats}


def init_module(
    key: jax.Array, module: nn.Module, inputs: jax.Array
) -> tuple[Any, Any, Any]:
    """Draws the weights of one module, called as `module(inputs, train)`.

    Args:
      key: for the weights.
      module: an encoder, a projector, a predictor.
      inputs: [B, ...], as the module takes them.

    Returns:
      `(its output in inference mode, params, batch_stats)`; batch_stats is empty for a
      module without BatchNorm.
    """
    output, variables = module.init_with_output(key, inputs, train=False)
    return output, variables.get("params", {}), variables.get("batch_stats", {})


def variables(params: Any, batch_stats: Any, name: str) -> dict[str, Any]:
    """The variables of one module, as flax takes them.

    Args:
      params, batch_stats: with an entry for each module. A module without weights or
        without BatchNorm may be missing, because a checkpoint leaves out empty entries.
      name: the entry, "encoder" for example.
    """
    return {"params": params.get(name, {}), "batch_stats": batch_stats.get(name, {})}


def apply_module(
    module: nn.Module,
    variables: Any,
    inputs: jax.Array,
    *,
    train: bool,
    **options: Any,
) -> tuple[Any, Any]:
    """Runs one module: `(output, new batch_stats)`.

    Args:
      module: called as `module(inputs, train, **options)`.
      variables: the module's, `{"params", "batch_stats"}`.
      inputs: [B, ...], as the module takes them.
      train: True: BatchNorm normalises by these inputs and updates its running
        statistics. False: it normalises by the running statistics.
      **options: further arguments of the module.
    """
    output, updated = module.apply(
        variables, inputs, train=train, mutable=["batch_stats"], **options
    )
    return output, updated.get("batch_stats", {})


def moving_average(old: Any, new: Any, momentum: float | jax.Array) -> Any:
    """Exponential moving average: `momentum * old + (1 - momentum) * new`.

    Args:
      old, new: two trees with the same structure.
      momentum: the weight of `old`, [] or a float.
    """
    return jax.tree.map(lambda x, y: momentum * x + (1 - momentum) * y, old, new)


def update_target(params: Any, model_state: Any, momentum: float | jax.Array) -> Any:
    """Moves the target network's weights towards the trained network's.

    Args:
      params: the trained network's; may hold more parts than the target has.
      model_state: a method's, with `{"target": {"params", "batch_stats"}}`.
      momentum: as `moving_average` takes it, [] or a float.

    Returns:
      model_state with new `["target"]["params"]`. The target keeps its own BatchNorm
      statistics.
    """
    target = model_state["target"]
    online = {part: params[part] for part in target["params"]}
    moved = moving_average(target["params"], online, momentum)
    return model_state | {"target": target | {"params": moved}}
