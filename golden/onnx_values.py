"""The values of an ONNX QDQ graph while it becomes a network: quantized tensors, constants, and what waits for one."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from golden.checks import JobError, check
from golden.int8_builder import EVERYTHING, Clamp, Int8Builder, LayerOutput, without_layer
from golden.onnx_file import Model, Node

Finish = Callable[[str, float, int, Clamp], str]
"""Adds the layer of a name, with the scale, zero point and clamp of its output, and returns the layer's name."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Quantized constants: integers, their scales [1] or one for each step along ``axis``, their zero point."""

    values: np.ndarray
    scales: np.ndarray
    zero_point: int
    axis: int

    @property
    def real(self) -> np.ndarray:
        """What they stand for, float64."""
        shape = [1] * self.values.ndim
        if len(self.scales) > 1:
            shape[self.axis] = len(self.scales)
        return (self.values.astype(np.float64) - self.zero_point) * self.scales.reshape(shape)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What an operator computes as real numbers, a layer as soon as its quantization is known.

    ``low`` and ``high`` bound it, None where nothing does. ``bias`` may be added to a product of matrices.
    """

    finish: Finish
    shape: tuple[int, ...]
    operator: Node
    low: float | None = None
    high: float | None = None
    bias: Callable[[np.ndarray], "Pending"] | None = None


Value = LayerOutput | Constant | Pending | np.ndarray


class GraphReader:
    """The values of ``model`` by name, and the layers in ``builder``. Its methods raise JobError.

    ``tensors`` gives the layer whose int8 output a quantized tensor is, ``node`` is the operator in work.
    """

    def __init__(self, model: Model, *, fuse: bool):
        self.model, self.fuse, self.builder = model, fuse, Int8Builder()
        self.users = Counter([name for node in model.nodes for name in node.inputs] + [model.output])
        self.values: dict[str, Value] = dict(model.constants)
        self.tensors: dict[str, str] = {}
        self.node: Node | None = None

    def name(self, node: Node | None = None) -> str:
        """A layer's name: the operation and the operator's number."""
        node = node or self.node
        return f"{NAMES.get(node.op, node.op.lower())}_{node.number}"

    def input(self, position: int) -> Value:
        """The value of an input. Raises JobError where there is none."""
        inputs = self.node.inputs
        check(position < len(inputs) and inputs[position] != "", "inputs", f"at least {position + 1}", len(inputs))
        check(inputs[position] in self.values, "inputs", "a tensor that is computed before", inputs[position])
        return self.values[inputs[position]]

    def has_input(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.node.inputs) and self.node.inputs[position] != ""

    def constant(self, position: int) -> np.ndarray:
        """An input that is a plain constant."""
        value = self.input(position)
        check(isinstance(value, np.ndarray), f"input {position}", "a constant", "one that is computed")
        return value

    def quantized(self, position: int = 0, *, edges: bool = False) -> LayerOutput:
        """An input that is a quantized tensor, which has zeros around it only if ``edges``, else a layer adds them."""
        value = self.input(position)
        check(isinstance(value, LayerOutput), f"input {position}", "a tensor behind DequantizeLinear",
              "a constant" if isinstance(value, (Constant, np.ndarray)) else "one that is not quantized")
        check(not value.host, f"input {position}", f"nothing behind {' and '.join(value.host)}, which is left to the "
              "host", self.node.op)
        return self.padded(value) if any(value.edges) and not edges else value

    def padded(self, value: LayerOutput, before: int = 0, after: int = 0) -> LayerOutput:
        """A value with its zeros as a layer of its own."""
        layer = self.builder.pad(f"{self.name()}_pad", value.layer, edges=value.edges, before=before, after=after)
        return LayerOutput(layer=layer, shape=value.shape, alone=True)

    def map(self, value: LayerOutput) -> tuple[int, int, int]:
        """The (C, H, W) of a value that is [1, C, H, W], without the zeros around it."""
        channels, rows, columns = self.builder.specs[value.layer].shape
        whole = 1, channels, rows + sum(value.edges[:2]), columns + sum(value.edges[2:])
        check(value.shape == whole, "input", f"{list(whole)}, as it was computed", list(value.shape))
        return channels, rows, columns

    def sizes(self, name: str, count: int, default: Sequence[int]) -> tuple[int, ...]:
        """An attribute of so many integers."""
        found = self.node.attributes.get(name, default)
        fits = isinstance(found, tuple) and len(found) == count and all(isinstance(one, int) for one in found)
        check(fits or found is default, name, f"{count} integers", found)
        return tuple(found)

    def quantize(self, value: Value, scale: float, zero_point: int) -> LayerOutput:
        """A value as an int8 tensor of this quantization: a layer unless it is one already."""
        if isinstance(value, LayerOutput):
            spec = self.builder.specs[value.layer]
            if (spec.scale, spec.zero_point) == (scale, zero_point):
                return value
            value = self.padded(value) if any(value.edges) else value
            return replace(value, layer=self.rescaled(self.name(), value.layer, scale, zero_point, EVERYTHING),
                           alone=True)
        check(isinstance(value, Pending), "input", "a tensor that is computed", "a constant")
        clamp = _clamp(value.low, value.high, scale, zero_point)
        try:
            layer = value.finish(self.name(value.operator), scale, zero_point, clamp)
        except JobError as error:
            raise JobError(f"{value.operator.place}: {without_layer(error)}") from None
        for name in [name for name, known in self.tensors.items() if known == layer]:
            del self.tensors[name]  # The layer has been changed: it gives another tensor now.
        return LayerOutput(layer=layer, shape=value.shape, alone=True)

    def rescaled(self, name: str, source: str, scale: float, zero_point: int, clamp: Clamp) -> str:
        """A layer's output in another quantization, clamped."""
        from golden.tflite_scales import multiplier

        spec = self.builder.specs[source]
        if (spec.scale, spec.zero_point) != (scale, zero_point):
            return self.builder.rescale(name, source, multiplier("scale", spec.scale / scale), scale=scale,
                                        zero_point=zero_point, clamp=clamp)
        return self.builder.clamp(name, source, clamp)


def _clamp(low: float | None, high: float | None, scale: float, zero_point: int) -> Clamp:
    """The int8 range of real bounds."""
    ends = [None if end is None else zero_point + int(np.clip(np.rint(end / scale), -1024, 1024))
            for end in (low, high)]
    first = -128 if ends[0] is None else min(max(ends[0], -128), 127)
    return first, 127 if ends[1] is None else max(min(ends[1], 127), first)


def scale_of(array: np.ndarray) -> np.ndarray:
    """Scales float64 [n] of a constant. Raises JobError unless they are above 0."""
    scales = np.asarray(array, np.float64).ravel()
    check(len(scales) >= 1 and bool(np.isfinite(scales).all() and (scales > 0).all()), "scale", "numbers above 0",
          scales[:1])
    return scales


def size(shape: Sequence[int]) -> int:
    """How many values."""
    return math.prod(shape)


NAMES = {"Conv": "conv", "Gemm": "fc", "MatMul": "fc", "MaxPool": "max_pool", "AveragePool": "average_pool",
         "GlobalAveragePool": "mean", "ReduceMean": "mean", "QuantizeLinear": "quantize"}
"""How layers are called after operators whose name is another."""
Attributes = dict[str, Any]
