"""An int8 network as an importer builds it: layer by layer, with the sizes and quantization of what each gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from golden.checks import JobError, check
from golden.conv_tensors import ConvTensors
from golden.geometry import MAX_KERNEL, NO_PADDING
from golden.layers import ConvLayer, LayerDescription, MaxPoolLayer, TensorSpec
from golden.network import NetworkInput, QuantizedNetwork

IDENTITY = (1 << 30, 1)
"""Multiplier and shift of a requantization that changes nothing."""
EVERYTHING = (-128, 127)
"""The clamp that changes nothing."""
_MOST_WEIGHTS = 1 << 24
"""Of a selection of channels."""

Clamp = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """What a tensor of a model is: the output of ``layer``, or "input", of ``shape`` in the order of the model's file.

    ``alone``: nothing else takes the layer's output. ``edges`` (top, bottom, left, right) are zeros around it that no
    layer holds yet; ``host``: operators behind it that are left to the host.
    """

    layer: str
    shape: tuple[int, ...]
    alone: bool
    edges: tuple[int, int, int, int] = NO_PADDING
    host: tuple[str, ...] = ()


class Int8Builder:
    """Layers in order; ``specs`` says what each, and "input", gives. Methods return the name of the layer they add.

    They raise JobError for what the engine's operations cannot do.
    """

    def __init__(self):
        self.specs: dict[str, TensorSpec] = {}
        self.layers: dict[str, LayerDescription] = {}
        self._joined: set[str] = {"input"}

    def set_input(self, *, scale: float, zero_point: int, shape: Sequence[int]) -> None:
        """State the network's input, (C, H, W)."""
        checked = NetworkInput(scale=scale, zero_point=zero_point, shape=tuple(shape))
        self.specs["input"] = TensorSpec(shape=checked.shape, scale=checked.scale, zero_point=checked.zero_point)

    def network(self, name: str, metadata: dict[str, Any], places: Mapping[str, str]) -> QuantizedNetwork:
        """All layers that have been added. Errors name the operator that a layer comes from, as ``places`` has it."""
        check(bool(self.layers), "model", "at least one layer", "none")
        source = self.specs["input"]
        try:
            return QuantizedNetwork(
                name=name, layers=tuple(self.layers.values()), metadata=metadata,
                input=NetworkInput(scale=source.scale, zero_point=source.zero_point, shape=source.shape))
        except JobError as error:
            layer = str(error).removeprefix("layer ").partition(":")[0]
            raise JobError(f"{places.get(layer, layer)}: {without_layer(error)}") from None

    def add(self, layer: LayerDescription) -> str:
        """Add a layer, or put it in the place of the one of its name."""
        sources = [self.specs[name] for name in layer.inputs]
        if layer.keeps_quantization:
            scale, zero_point = sources[0].scale, sources[0].zero_point
        else:
            scale, zero_point = layer.output_scale, layer.output_zero_point
        shape = layer.output_shape(sources, layer.sizes(sources))
        self.specs[layer.name] = TensorSpec(shape=shape, scale=scale, zero_point=zero_point)
        self.layers[layer.name] = layer
        return layer.name

    def convolve(self, name: str, source: str, tensors: ConvTensors, **fields: Any) -> str:
        """A convolution of the fields of :class:`golden.layers.ConvLayer`."""
        outputs, _, *kernel = tensors.weight.shape
        return self.add(ConvLayer(name=name, inputs=(source,), tensors=tensors, out_channels=outputs,
                                  kernel=tuple(kernel), input_zero_point=self.specs[source].zero_point, **fields))

    def clamp(self, name: str, source: str, clamp: Clamp) -> str:
        """The values of ``source`` in a range."""
        return self.add(MaxPoolLayer(name=name, inputs=(source,), kernel=(1, 1), activation=clamp))

    def rescale(self, name: str, source: str, factor: tuple[int, int], *, scale: float, zero_point: int,
                clamp: Clamp = EVERYTHING) -> str:
        """The values of ``source`` in another quantization, by a multiplier and shift."""
        channels = self.specs[source].shape[0]
        return self.convolve(name, source, _tensors(np.ones((channels, 1, 1, 1), np.int8), factor), groups=channels,
                             activation=clamp, output_scale=scale, output_zero_point=zero_point)

    def pad(self, name: str, source: str, *, edges: Sequence[int] = NO_PADDING, before: int = 0,
            after: int = 0) -> str:
        """``source`` with real zeros around it, ``edges`` (top, bottom, left, right), and as so many channels.

        A convolution whose one tap of 1 lies where its window is all padding but for one pixel at the map's corners.
        """
        top, bottom, left, right = edges
        kernel = top + bottom + 1, left + right + 1
        check(max(kernel) <= MAX_KERNEL, "padding", f"at most {MAX_KERNEL - 1} rows and columns", list(edges))
        channels = self.specs[source].shape[0]
        outputs = before + channels + after
        selected = bool(before or after)
        depth = channels if selected else 1
        size = outputs * depth * kernel[0] * kernel[1]
        check(size <= _MOST_WEIGHTS, "padding", "fewer channels, whose selection is a convolution", outputs)
        weight = np.zeros((outputs, depth, *kernel), np.int8)
        rows = np.arange(channels)
        weight[before + rows, rows if selected else 0, bottom, right] = 1
        source_spec = self.specs[source]
        return self.convolve(name, source, _tensors(weight, IDENTITY), groups=1 if selected else channels,
                             padding=(kernel[0] - 1,) * 2 + (kernel[1] - 1,) * 2, output_scale=source_spec.scale,
                             output_zero_point=source_spec.zero_point)

    def joinable(self, name: str, source: str) -> str:
        """``source``, or a copy of this name where it is the network's input or part of another concatenation."""
        if source in self._joined:
            source = self.clamp(name, source, EVERYTHING)
        self._joined.add(source)
        return source

    # Changes of layers whose output nothing else takes

    def can_clamp(self, source: str) -> bool:
        """Whether a clamp can be part of the layer ``source``."""
        return hasattr(self.layers.get(source), "activation")

    def clamped(self, source: str, clamp: Clamp) -> str:
        """The layer ``source`` with one more clamp behind its own."""
        layer = self.layers[source]
        return self.add(replace(layer, activation=_composed(layer.activation, clamp)))

    def can_pool(self, source: str) -> bool:
        """Whether a max-pool can be part of the layer ``source``."""
        layer = self.layers.get(source)
        return layer is not None and layer.op == "conv" and layer.pool is None

    def pooled(self, source: str, *, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
               clamp: Clamp = EVERYTHING) -> str:
        """The convolution ``source`` with a max-pool."""
        layer = self.layers[source]
        return self.add(replace(layer, pool=(*kernel, *stride), pool_padding=tuple(padding),
                                activation=_composed(layer.activation, clamp)))


class Operator(Protocol):
    """An operator of any graph: what its tensors are called."""

    inputs: Sequence[Any]
    outputs: Sequence[Any]


T = TypeVar("T", bound=Operator)


def needed(operators: Sequence[T], output: Any) -> list[T]:
    """The operators that the tensor ``output`` depends on, in order."""
    wanted, found = {output}, []
    for operator in reversed(operators):
        if not wanted.isdisjoint(operator.outputs):
            found.append(operator)
            wanted.update(operator.inputs)
    return found[::-1]


def without_layer(error: JobError) -> str:
    """A message without the name of the layer that it is about."""
    text = str(error)
    return text.partition(": ")[2] if text.startswith("layer ") else text


def signed_weights(values: np.ndarray, zero_point: int) -> tuple[np.ndarray, int]:
    """int8 weights and their zero point from int8 or uint8 ones: 0 where what lies above it fits int8."""
    shift = 128 if values.dtype == np.uint8 else 0
    check(-128 <= zero_point - shift <= 127, "weight", f"a zero point in {shift - 128}..{shift + 127}", zero_point)
    above = values.astype(np.int16) - zero_point
    if above.min() >= -128 and above.max() <= 127:
        return np.ascontiguousarray(above.astype(np.int8)), 0
    return np.ascontiguousarray((values.astype(np.int16) - shift).astype(np.int8)), zero_point - shift


def spread_weights(values: np.ndarray, dilation: Sequence[int], zero_point: int) -> np.ndarray:
    """Weights [O,C/groups,KH,KW] whose taps are so many pixels apart, real zeros between them."""
    if max(dilation) == 1:
        return values
    wide = [(size - 1) * step + 1 for size, step in zip(values.shape[2:], dilation, strict=True)]
    spread = np.full((*values.shape[:2], *wide), zero_point, values.dtype)
    spread[:, :, ::dilation[0], ::dilation[1]] = values
    return spread


def _composed(first: Clamp | str, second: Clamp) -> Clamp:
    """The clamp that is ``first`` and then ``second``."""
    low, high = EVERYTHING if first == "none" else first
    return min(max(low, second[0]), second[1]), max(min(high, second[1]), second[0])


def _tensors(weight: np.ndarray, factor: tuple[int, int]) -> ConvTensors:
    """Weights without biases, all channels of one multiplier and shift."""
    outputs = len(weight)
    multiplier, shift = (np.full(outputs, value, np.int32) for value in factor)
    return ConvTensors(weight=weight, bias=np.zeros(outputs, np.int32), multiplier=multiplier, shift=shift)
