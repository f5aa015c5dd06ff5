"""The networks of the field, by name: layers and sizes as published, LeNet-4 trained, all others with random weights.

Batch normalization is folded into the convolutions, as in any quantized network. What differs from the original:

- ``alexnet``: the two-group original at 227x227; local response normalization is left out.
- ``resnet50``: version 1.5, the stride in the 3x3 convolution, as torchvision has it.
- ``resnet8``, ``resnet20``, ``resnet56``: of CIFAR; a shortcut that changes size is a 1x1 convolution (option B).
  ``resnet8`` has the layers of MLPerf Tiny's.
- ``mobilenet_v1_WIDTH_SIZE``, ``mobilenet_v2_WIDTH_SIZE``: any width and size, with TensorFlow's rounding of channels,
  SAME padding and 1001 classes (the first is the background).
- ``convnet5``: the CIFAR network of TensorFlow's tutorial on 24x24, without its normalization.
- ``mlp3``: 784-300-100-10, the sizes of DASNet's Table I, as those of ``lenet4`` and ``convnet5`` are.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden.checks import JobError
from golden.layers import AddLayer, AveragePoolLayer, ConvLayer, LayerDescription, MeanLayer
from golden.network import NetworkInput, QuantizedNetwork

MODEL_PATH = Path(__file__).parent / "models" / "lenet4_int8.npz"
"""LeNet-4 as ``winnow train`` has trained it (docs/lenet4.md)."""
CLASSES = 1000
PATTERNS = ("mobilenet_v1_WIDTH_SIZE", "mobilenet_v2_WIDTH_SIZE")


def names() -> tuple[str, ...]:
    """The names that :func:`build` knows, without those of other widths and sizes of MobileNet."""
    return (*_BUILDERS, "mobilenet_v1_1.0_224", "mobilenet_v2_1.0_224", "lenet4")


def build(name: str, *, seed: int = 0) -> QuantizedNetwork:
    """The network of this name; ``seed`` is that of its random weights. Raises JobError for an unknown name."""
    if name == "lenet4":
        return QuantizedNetwork.load(MODEL_PATH)
    mobilenet = re.fullmatch(r"mobilenet_v([12])_(\d+(?:\.\d+)?)_(\d+)", name)
    if mobilenet:
        version, width, size = int(mobilenet[1]), float(mobilenet[2]), int(mobilenet[3])
        blocks = _mobilenet_v1 if version == 1 else _mobilenet_v2
        if 0 < width <= 8 and 32 <= size <= 1024:
            return _network(name, (3, size, size), blocks(width, size), seed)
    elif name in _BUILDERS:
        shape, layers = _BUILDERS[name]
        return _network(name, shape, layers(), seed)
    raise JobError(f"network: expected one of {', '.join(names())} or {' or '.join(PATTERNS)} (width up to 8, size "
                   f"32..1024), got {name!r}")


def _network(name: str, shape: tuple[int, int, int], layers: list[LayerDescription], seed: int) -> QuantizedNetwork:
    return QuantizedNetwork(name=name, input=NetworkInput(scale=1 / 255, zero_point=-128, shape=shape),
                            layers=tuple(layers), seed=seed)


def _conv(name: str, outputs: int, kernel: int, stride: int = 1, padding: int | str = "same", *,
          activation: str = "relu", **fields: Any) -> ConvLayer:
    edges = padding if isinstance(padding, str) else (padding,) * 4
    return ConvLayer(name=name, out_channels=outputs, kernel=(kernel, kernel), stride=(stride, stride), padding=edges,
                     activation=activation, **fields)


def _classifier(name: str, classes: int = CLASSES) -> ConvLayer:
    return _conv(name, classes, 1, activation="none")


def _mlp3() -> list[LayerDescription]:
    return [_conv("fc1", 300, 1), _conv("fc2", 100, 1), _classifier("fc3", 10)]


def _convnet5() -> list[LayerDescription]:
    pool = dict(pool=(3, 3, 2, 2), pool_padding="same")
    return [_conv("conv1", 64, 5, **pool), _conv("conv2", 64, 5, **pool), _conv("fc1", 384, 6, padding="valid"),
            _conv("fc2", 192, 1), _classifier("fc3", 10)]


def _alexnet() -> list[LayerDescription]:
    pool = dict(pool=(3, 3, 2, 2))
    return [_conv("conv1", 96, 11, 4, 0, **pool), _conv("conv2", 256, 5, 1, 2, groups=2, **pool),
            _conv("conv3", 384, 3), _conv("conv4", 384, 3, groups=2), _conv("conv5", 256, 3, groups=2, **pool),
            _conv("fc6", 4096, 6, padding=0), _conv("fc7", 4096, 1), _classifier("fc8")]


def _vgg16() -> list[LayerDescription]:
    layers: list[LayerDescription] = []
    for block, (count, outputs) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        layers += [_conv(f"conv{block}_{number}", outputs, 3, pool=(2, 2, 2, 2) if number == count else None)
                   for number in range(1, count + 1)]
    return [*layers, _conv("fc6", 4096, 7, padding=0), _conv("fc7", 4096, 1), _classifier("fc8")]


def _resnet(blocks: tuple[int, ...], width: int, block: Callable[..., list[LayerDescription]], first: ConvLayer,
            classes: int) -> list[LayerDescription]:
    """Stages of residual blocks, each stage of twice the width and, but for the first, half the size."""
    layers: list[LayerDescription] = [first]
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage and not number else 1
            layers += block(f"stage{stage + 1}_{number + 1}", layers[-1].name, width << stage, stride, not number)
    return [*layers, MeanLayer(name="mean"), _classifier("fc", classes)]


def _basic_block(name: str, source: str, width: int, stride: int, first: bool) -> list[LayerDescription]:
    """Two 3x3 convolutions; the shortcut is projected where the size changes."""
    return _residual(name, source, [_conv(f"{name}_conv1", width, 3, stride, 1, inputs=(source,)),
                                    _conv(f"{name}_conv2", width, 3, 1, 1, activation="none")], stride, stride > 1)


def _bottleneck(name: str, source: str, width: int, stride: int, first: bool) -> list[LayerDescription]:
    """1x1, 3x3 and 1x1 convolutions, to four times the width; the first shortcut of a stage is projected."""
    return _residual(name, source, [_conv(f"{name}_conv1", width, 1, inputs=(source,)),
                                    _conv(f"{name}_conv2", width, 3, stride, 1),
                                    _conv(f"{name}_conv3", 4 * width, 1, activation="none")], stride, first)


def _residual(name: str, source: str, branch: list[ConvLayer], stride: int, projected: bool) -> list[LayerDescription]:
    """A branch and its addition to the source, which a 1x1 convolution brings to its shape if ``projected``."""
    shortcut = []
    if projected:
        shortcut = [_conv(f"{name}_shortcut", branch[-1].out_channels, 1, stride, 0, activation="none",
                          inputs=(source,))]
    other = shortcut[0].name if projected else source
    return [*branch, *shortcut, AddLayer(name=f"{name}_add", inputs=(branch[-1].name, other), activation="relu")]


def _imagenet_resnet(blocks: tuple[int, ...], block: Callable[..., list[LayerDescription]]) -> list[LayerDescription]:
    first = _conv("conv1", 64, 7, 2, 3, pool=(3, 3, 2, 2), pool_padding=(1, 1, 1, 1))
    return _resnet(blocks, 64, block, first, CLASSES)


def _cifar_resnet(count: int) -> list[LayerDescription]:
    return _resnet((count,) * 3, 16, _basic_block, _conv("conv1", 16, 3, 1, 1), 10)


def _mobilenet_v1(width: float, size: int) -> list[LayerDescription]:
    """A convolution and 13 blocks of a depthwise and a 1x1 convolution."""
    outputs = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    channels, *blocks = (max(int(width * count), 8) for count in outputs)
    layers: list[LayerDescription] = [_conv("conv", channels, 3, 2, activation="relu6")]
    for number, count in enumerate(blocks, 1):
        stride = 2 if number in (2, 4, 6, 12) else 1
        layers += [_conv(f"block{number}_depthwise", channels, 3, stride, groups=channels, activation="relu6"),
                   _conv(f"block{number}_pointwise", count, 1, activation="relu6")]
        channels = count
    rest = -(-size // 32)
    return [*layers, AveragePoolLayer(name="pool", kernel=(rest, rest)), _classifier("fc", 1 + CLASSES)]


def _mobilenet_v2(width: float, size: int) -> list[LayerDescription]:
    """A convolution, 17 inverted residual blocks with linear ends, and a 1x1 convolution."""
    channels = _by_eights(32 * width)
    layers: list[LayerDescription] = [_conv("conv", channels, 3, 2, activation="relu6")]
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    blocks = [(expansion, _by_eights(outputs * width), stride if not number else 1)
              for expansion, outputs, count, stride in stages for number in range(count)]
    for number, (expansion, outputs, stride) in enumerate(blocks, 1):
        name, source, wide = f"block{number}", layers[-1].name, channels * expansion
        if expansion > 1:
            layers.append(_conv(f"{name}_expand", wide, 1, activation="relu6"))
        layers += [_conv(f"{name}_depthwise", wide, 3, stride, groups=wide, activation="relu6"),
                   _conv(f"{name}_project", outputs, 1, activation="none")]
        if stride == 1 and outputs == channels:
            layers.append(AddLayer(name=f"{name}_add", inputs=(layers[-1].name, source)))
        channels = outputs
    last = _conv("conv_last", _by_eights(1280 * max(1, width)), 1, activation="relu6")
    return [*layers, last, MeanLayer(name="mean"), _classifier("fc", 1 + CLASSES)]


def _by_eights(channels: float) -> int:
    """The multiple of 8 nearest to a number of channels, not less than 90 % of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


_BUILDERS: dict[str, tuple[tuple[int, int, int], Callable[[], list[LayerDescription]]]] = {
    "alexnet": ((3, 227, 227), _alexnet),
    "vgg16": ((3, 224, 224), _vgg16),
    "resnet18": ((3, 224, 224), lambda: _imagenet_resnet((2, 2, 2, 2), _basic_block)),
    "resnet50": ((3, 224, 224), lambda: _imagenet_resnet((3, 4, 6, 3), _bottleneck)),
    "resnet8": ((3, 32, 32), lambda: _cifar_resnet(1)),
    "resnet20": ((3, 32, 32), lambda: _cifar_resnet(3)),
    "resnet56": ((3, 32, 32), lambda: _cifar_resnet(9)),
    "convnet5": ((3, 24, 24), _convnet5),
    "mlp3": ((784, 1, 1), _mlp3),
}
