"""ResNet encoders: images in, one feature vector h per image out.

`ResNet(depth=50, width=2, stem="cifar")(images, train)`. The plain network is
torchvision's, weight for weight (ResNet v1.5: the bottleneck strides in its 3x3).
`sk=True` is SimCLRv2's: selective kernels (arXiv 1903.06586) with the stem and the
shortcuts of ResNet-D (arXiv 1812.01187), as in google-research/simclr `resnet.py`. Only
the max-pool's padding is torchvision's: one pixel on each side.

BatchNorm has SimCLR's decay 0.9 and epsilon 1e-5 (arXiv 2002.05709).
"""

from collections.abc import Callable
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# Depth -> blocks in each of the four stages. 10, 18 and 34 have basic blocks.
DEPTHS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
BASIC_DEPTHS = (10, 18, 34)
STEMS = ("imagenet", "cifar")

# The initial kernels, and the initial gamma of each block's last BatchNorm. Under
# BatchNorm a kernel's scale changes only the relative size of the optimizer's steps.
INITS = {
    # He over fan-out. At gamma 0 a block starts as its shortcut, as in SimCLR's code
    # (whose kernels are LeCun's) and in torchvision with zero_init_residual.
    "simclr": (
        nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        nn.initializers.zeros,
    ),
    # torchvision's ResNet, which MoCo's code uses: He over fan-out, and every block
    # contributes from the first step.
    "torchvision": (
        nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        nn.initializers.ones,
    ),
    # The defaults of torch.nn's layers, which most small-GPU code keeps: smaller
    # kernels, and every block contributes from the first step.
    "pytorch": (
        nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        nn.initializers.ones,
    ),
}

# A convolution or BatchNorm with its options already bound.
Layer = Callable[..., Callable[[jax.Array], jax.Array]]
Initializer = Callable[..., jax.Array]


class ResNet(nn.Module):
    """ResNet 10 to 200 without its classifier.

    Parameters and BatchNorm statistics are float32 whatever `dtype` is. A submodule's
    name says where it is: stem_conv, stage1_block1/conv2, stage1_block1/bn2, ...

    Args:
      depth: one of `DEPTHS`.
      width: factor on every channel count, 0.25 or 4 for example; 64 * width is the
        number of channels of the first stage and must be whole, and at least 2 for sk
        with the imagenet stem.
      sk: selective kernels and ResNet-D (SimCLRv2). A basic block has the selective
        kernel in its first convolution, as in timm's skresnet18; SimCLR's code has
        them in bottlenecks only.
      stem: "imagenet" (7x7 stride 2, max-pool) or "cifar" (3x3, nothing else).
      dtype: of the convolutions and activations.
      remat: recompute each block's activations in the backward pass; do not store them.
      init_scheme: how the weights are initialised, one of `INITS`.

    Example:
      >>> encoder = ResNet(depth=18, width=0.25, stem="cifar")
      >>> init = partial(encoder.init_with_output, train=False)
      >>> h, variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([2, 8, 8, 3]))
      >>> h.shape, sorted(variables), encoder.features
      ((2, 128), ['batch_stats', 'params'], 128)
    """

    depth: int = 50
    width: float = 1
    sk: bool = False
    stem: str = "imagenet"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    init_scheme: str = "simclr"

    def __post_init__(self) -> None:
        choices = {"depth": DEPTHS, "stem": STEMS, "init_scheme": INITS}
        for field, allowed in choices.items():
            if (value := getattr(self, field)) not in allowed:
                raise ValueError(
                    f"{field} {value!r} is unknown; choose from {list(allowed)}"
                )
        channels = 64 * self.width
        if not (channels >= 1 and float(channels).is_integer()):
            raise ValueError(
                f"width {self.width!r} gives 64 * width = {channels} channels in the "
                "first stage, which must be a whole number and at least 1"
            )
        if self.sk and self.stem == "imagenet" and channels < 2:
            raise ValueError(
                f"width {self.width!r} gives {channels:g} channel in the first stage; "
                "with sk, the first convolutions of the imagenet stem have half as many"
            )
        super().__post_init__()

    @property
    def features(self) -> int:
        """The number of features in h."""
        return int((512 if self.depth in BASIC_DEPTHS else 2048) * self.width)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Encodes images.

        Args:
          images: [B, H, W, C] floats, in [0, 1] as `augment` makes them.
          train: True: BatchNorm normalises by the batch and updates its running
            statistics (the caller makes "batch_stats" mutable). False: it normalises
            by the running statistics.

        Returns:
          h, [B, features] in float32.
        """
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(
                f"images must be [B, H, W, C], got {images.shape}; B, H, W, C >= 1"
            )
        kernel_init, last_gamma = INITS[self.init_scheme]
        conv = partial(
            nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=kernel_init
        )
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        block = BasicBlock if self.depth in BASIC_DEPTHS else BottleneckBlock
        if self.remat:
            block = nn.remat(block)

        channels = int(64 * self.width)
        x = self._stem(images, channels, conv, norm)
        for stage, blocks in enumerate(DEPTHS[self.depth], start=1):
            for i in range(1, blocks + 1):
                x = block(
                    filters=channels * 2 ** (stage - 1),
                    stride=2 if stage > 1 and i == 1 else 1,
                    sk=self.sk,
                    conv=conv,
                    norm=norm,
                    last_gamma=last_gamma,
                    name=f"stage{stage}_block{i}",
                )(x)
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)

    def _stem(self, x: jax.Array, channels: int, conv: Layer, norm: Layer) -> jax.Array:
        """Images to the input of stage 1."""
        if self.stem == "cifar":
            x = conv(channels, (3, 3), padding=1, name="stem_conv")(x)
            return nn.relu(norm(name="stem_bn")(x))
        if self.sk:  # ResNet-D: three 3x3 in place of the 7x7
            half = channels // 2
            x = conv(half, (3, 3), strides=2, padding=1, name="stem_conv1")(x)
            x = nn.relu(norm(name="stem_bn1")(x))
            x = conv(half, (3, 3), padding=1, name="stem_conv2")(x)
            x = nn.relu(norm(name="stem_bn2")(x))
            x = conv(channels, (3, 3), padding=1, name="stem_conv3")(x)
            x = nn.relu(norm(name="stem_bn3")(x))
        else:
            x = conv(channels, (7, 7), strides=2, padding=3, name="stem_conv")(x)
            x = nn.relu(norm(name="stem_bn")(x))
        return max_pool(x)


class _Block(nn.Module):
    """What the two residual blocks share: their fields and the shortcut."""

    filters: int
    stride: int
    sk: bool
    conv: Layer
    norm: Layer
    last_gamma: Initializer

    def spatial(self, x: jax.Array, index: int) -> jax.Array:
        """The 3x3 convolution that strides, its BatchNorm and ReLU."""
        if self.sk:
            return SelectiveKernel(
                self.filters, self.stride, self.conv, self.norm, name=f"sk{index}"
            )(x)
        x = self.conv(
            self.filters, (3, 3), strides=self.stride, padding=1, name=f"conv{index}"
        )(x)
        return nn.relu(self.norm(name=f"bn{index}")(x))

    def shortcut(self, x: jax.Array, filters: int) -> jax.Array:
        """x itself, or its projection where the block changes the shape."""
        if self.stride == 1 and x.shape[-1] == filters:
            return x
        stride = self.stride
        if self.sk:
            # ResNet-D averages before the 1x1 instead of striding in it. SimCLR's code
            # does so in stage 1 too, at stride 1; there the average excludes padding.
            average = partial(nn.avg_pool, count_include_pad=stride > 1)
            # flax does not annotate the padding of its pools; pyright infers str
            after = ((0, 1), (0, 1))
            x = average(x, (2, 2), (stride, stride), after)  # pyright: ignore
            stride = 1
        x = self.conv(filters, (1, 1), strides=stride, name="shortcut_conv")(x)
        return self.norm(name="shortcut_bn")(x)


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = self.shortcut(x, self.filters)
        x = self.spatial(x, 1)
        x = self.conv(self.filters, (3, 3), padding=1, name="conv2")(x)
        x = self.norm(scale_init=self.last_gamma, name="bn2")(x)
        return nn.relu(x + shortcut)


class BottleneckBlock(_Block):
    """1x1 down, 3x3, 1x1 up to four times the filters."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = self.shortcut(x, 4 * self.filters)
        x = self.conv(self.filters, (1, 1), name="conv1")(x)
        x = nn.relu(self.norm(name="bn1")(x))
        x = self.spatial(x, 2)
        x = self.conv(4 * self.filters, (1, 1), name="conv3")(x)
        x = self.norm(scale_init=self.last_gamma, name="bn3")(x)
        return nn.relu(x + shortcut)


class SelectiveKernel(nn.Module):
    """Two 3x3 convolutions, mixed per image and channel by weights that sum to 1.

    The weights come from the pooled sum of both, through a bottleneck of 1/16 of the
    filters and at least 32 (SimCLRv2: sk_ratio 0.0625, min_dim 32).
    """

    filters: int
    stride: int
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(
            2 * self.filters, (3, 3), strides=self.stride, padding=1, name="conv"
        )(x)
        a, b = jnp.split(nn.relu(self.norm(name="bn")(x)), 2, axis=-1)

        mid = max(self.filters // 16, 32)
        pooled = jnp.mean(a + b, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        mixing = self.conv(mid, (1, 1), name="mix_conv1")(pooled)
        mixing = nn.relu(self.norm(name="mix_bn")(mixing))
        mixing = self.conv(2 * self.filters, (1, 1), name="mix_conv2")(mixing)
        # A softmax over two is a sigmoid of their difference.
        to_a, to_b = jnp.split(mixing, 2, axis=-1)
        weight = nn.sigmoid(to_a - to_b)
        return weight * a + (1 - weight) * b


@jax.custom_jvp
def max_pool(x: jax.Array) -> jax.Array:
    """The largest value of each 3x3 window, at stride 2, with one pixel of padding.

    It equals torch's `MaxPool2d(3, stride=2, padding=1)`. Of equal values the first in
    the window gets the gradient, as in torch.

    Args:
      x: [B, H, W, C], floats.

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C].

    Example:
      >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
    """
    return reduce(jnp.maximum, _pool_slices(x, -jnp.inf))


# The gradient of flax's max_pool is a scatter, whose additions have no fixed order. Of
# the 38 ms of a ResNet-50's step at 224 px (H200, batch 128, bfloat16) it took 1.1, and
# the positions that the forward pass writes for it took 0.5. XLA fuses this sum.
@max_pool.defjvp
def _max_pool_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    first, *others = _pool_slices(primals[0], -jnp.inf)
    largest, place = first, jnp.zeros(first.shape, jnp.uint8)
    for k, values in enumerate(others, start=1):
        place = jnp.where(values > largest, jnp.uint8(k), place)
        largest = jnp.maximum(largest, values)
    moved = enumerate(_pool_slices(tangents[0], 0))
    return largest, reduce(jnp.add, [jnp.where(place == k, t, 0) for k, t in moved])


def _pool_slices(x: jax.Array, padding: float) -> list[jax.Array]:
    """The nine positions of the window, row by row, each as one array."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=padding)
    rows, columns = (2 * ((side + 1) // 2) - 1 for side in x.shape[1:3])
    corners = [(i, j) for i in range(3) for j in range(3)]
    return [padded[:, i : i + rows : 2, j : j + columns : 2] for i, j in corners]
