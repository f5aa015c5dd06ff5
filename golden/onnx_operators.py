"""From the operators of an ONNX QDQ model to the layers of an int8 network, or refused by name."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from golden.checks import JobError, check
from golden.conv_tensors import ConvTensors
from golden.geometry import MAX_KERNEL, MAX_STRIDE, NO_PADDING, same_padding
from golden.int8_builder import EVERYTHING, Clamp, LayerOutput, signed_weights, spread_weights, without_layer
from golden.layers import AddLayer, AveragePoolLayer, ConcatLayer, MaxPoolLayer, MeanLayer
from golden.onnx_file import Node
from golden.onnx_shapes import ShapeReader
from golden.onnx_values import Constant, Pending, Value, scale_of, size
from golden.tflite_scales import channel_multipliers

_INT32_MAX = 2**31 - 1
_STATED_TYPES = {0: np.uint8, TensorProto.UINT8: np.uint8, TensorProto.INT8: np.int8}
"""Of QuantizeLinear's output where it has no zero point, by its attribute."""


class Converter(ShapeReader):
    """Adds a layer for each operator that computes, when its output is quantized.

    ``places`` says which operator a layer comes from, ``kinds`` the type of a tensor that QuantizeLinear gives.
    """

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.places: dict[str, str] = {}
        self.kinds: dict[str, np.dtype | type] = {}

    def read(self, node: Node) -> None:
        """Add what ``node`` does. Raises JobError that names it."""
        self.node = node
        known = set(self.builder.layers)
        try:
            check(len(node.outputs) >= 1 and not any(node.outputs[1:]), "outputs", "1", len(node.outputs))
            check(node.outputs[0] not in self.values, "output", "a tensor that nothing else computes", node.outputs[0])
            value = OPERATORS[node.op](self)
        except JobError as error:
            text = str(error)
            raise JobError(text if text.startswith("operator ") else f"{node.place}: {without_layer(error)}") from None
        if isinstance(value, LayerOutput):
            value = replace(value, alone=value.alone and self.users[node.outputs[0]] == 1)
            if node.op == "QuantizeLinear" and not value.host and not any(value.edges):
                self.tensors[node.outputs[0]] = value.layer
        self.values[node.outputs[0]] = value
        self.places |= dict.fromkeys(set(self.builder.layers) - known, node.place)

    # Quantization

    def quantize_linear(self) -> Value:
        stated = self.node.attributes.get("output_dtype", 0)
        check(stated in _STATED_TYPES, "output_dtype", "int8 or uint8", stated)
        scales, zero_point = self._quantization(_STATED_TYPES[stated])
        inputs = self.node.inputs
        self.kinds[self.node.outputs[0]] = self.constant(2).dtype if self.has_input(2) else _STATED_TYPES[stated]
        if inputs[0] == self.model.input and inputs[0] not in self.values:
            return self._set_input(scales, zero_point)
        value = self.input(0)
        if isinstance(value, np.ndarray):
            return self._quantized_constant(value, scales)
        check(len(scales) == 1, "scale", "one for a tensor that is computed", len(scales))
        if isinstance(value, LayerOutput) and value.host:
            return value
        return self.quantize(value, float(scales[0]), zero_point)

    def dequantize_linear(self) -> Value:
        name = self.node.inputs[0]
        if name == self.model.input and name not in self.values:
            return self._set_input(*self._quantization(self.model.input_type))
        value = self.input(0)
        if isinstance(value, np.ndarray):
            check(value.dtype in (np.int8, np.uint8, np.int32), "input", "int8, uint8 or int32", value.dtype)
            scales, zero_point = self._quantization(value.dtype)
            stated = self.constant(2).dtype if self.has_input(2) else value.dtype
            check(stated == value.dtype, "zero point", f"{value.dtype} as the input", stated)
            return Constant(values=value, scales=scales, axis=self._axis(value.ndim, scales),
                            zero_point=zero_point + (128 if value.dtype == np.uint8 else 0))
        scales, zero_point = self._quantization(self.kinds.get(name))
        if isinstance(value, Constant):
            return value
        check(isinstance(value, LayerOutput), "input", "a tensor behind QuantizeLinear", "one that is not quantized")
        spec = self.builder.specs[value.layer]
        same = value.host or (len(scales) == 1 and (spec.scale, spec.zero_point) == (float(scales[0]), zero_point))
        check(same, "scale", f"that of the tensor, {spec.scale} and zero point {spec.zero_point}",
              f"{scales[0]} and {zero_point}")
        return value

    def _quantization(self, kind: np.dtype | type | None) -> tuple[np.ndarray, int]:
        """Scales, and the zero point as an int8 value, of the operator; where it states none, it is 0 of ``kind``."""
        scales = scale_of(self.constant(1))
        check(not self.node.attributes.get("block_size"), "block_size", "none", self.node.attributes.get("block_size"))
        check(self.has_input(2) or kind is not None, "zero point", "one", "none")
        zero_points = self.constant(2) if self.has_input(2) else np.zeros(1, kind)
        kinds = (np.int8, np.uint8, np.int32)
        check(zero_points.dtype in kinds and zero_points.size >= 1, "zero point", "int8 or uint8", zero_points.dtype)
        values = np.unique(zero_points.astype(np.int64))
        check(len(values) == 1, "zero point", "one for all channels", values[:2])
        return scales, int(values[0]) - (128 if zero_points.dtype == np.uint8 else 0)

    def _set_input(self, scales: np.ndarray, zero_point: int) -> LayerOutput:
        """The model's input, quantized here."""
        shape = (1, *self.model.input_shape[1:])
        known = self.model.input_shape[0] in (None, 0, 1) and all(isinstance(one, int) and one > 0 for one in shape)
        check(known and len(shape) in (2, 4), "input", "[1, C, H, W] or [1, C], all sizes stated",
              list(self.model.input_shape))
        check(len(scales) == 1, "scale", "one for the input", len(scales))
        check(-128 <= zero_point <= 127, "zero point", "one of int8 or uint8", zero_point)
        self.builder.set_input(scale=float(scales[0]), zero_point=zero_point,
                               shape=shape[1:] if len(shape) == 4 else (shape[1], 1, 1))
        return LayerOutput(layer="input", shape=shape, alone=True)

    def _axis(self, dimensions: int, scales: np.ndarray) -> int:
        axis = self.node.attributes.get("axis", 1)
        if len(scales) == 1:
            return 0
        check(isinstance(axis, int) and -dimensions <= axis < dimensions, "axis", "a dimension", axis)
        return axis % dimensions

    def _quantized_constant(self, values: np.ndarray, scales: np.ndarray) -> Constant:
        kind = self.kinds[self.node.outputs[0]]
        check(values.dtype.kind == "f" and kind in (np.int8, np.uint8), "input", "floats, to int8 or uint8", kind)
        zero_point, axis = int(self.constant(2).ravel()[0]) if self.has_input(2) else 0, self._axis(values.ndim, scales)
        shape = [1] * values.ndim
        if len(scales) > 1:
            check(values.shape[axis] == len(scales), "scale", f"{values.shape[axis]} numbers", len(scales))
            shape[axis] = len(scales)
        limits = np.iinfo(kind)
        steps = np.clip(np.rint(values / scales.reshape(shape)) + zero_point, limits.min, limits.max)
        return Constant(values=steps.astype(kind), scales=scales, zero_point=zero_point, axis=axis)

    # Products

    def conv(self) -> Value:
        value, weight = self.quantized(edges=True), self._weight(1)
        check(weight.values.ndim == 4 and weight.values.size > 0, "weight", "four dimensions", weight.values.ndim)
        dilation, stride = self.sizes("dilations", 2, (1, 1)), self.sizes("strides", 2, (1, 1))
        groups = self.node.attributes.get("group", 1)
        check(1 <= min(dilation) and max(dilation) <= 11, "dilations", "1..11", dilation)
        wide = [(extent - 1) * step + 1 for extent, step in zip(weight.values.shape[2:], dilation, strict=True)]
        check(max(wide) <= 11, "weight", "a kernel of 1..11", wide)
        stated = self.node.attributes.get("kernel_shape", tuple(weight.values.shape[2:]))
        check(tuple(stated) == weight.values.shape[2:], "kernel_shape", list(weight.values.shape[2:]), stated)
        padding = self._padding(value, wide, stride)
        if any(value.edges):
            if all(extent > edge + own for extent, edge, own in zip(
                    (wide[0], wide[0], wide[1], wide[1]), value.edges, padding, strict=True)):
                padding = tuple(edge + own for edge, own in zip(value.edges, padding, strict=True))
            else:
                value = self.padded(value)
        self.map(value)
        values = spread_weights(weight.values, dilation, weight.zero_point)
        return self._product(replace(value, edges=NO_PADDING), replace(weight, values=values), axis=0,
                             bias=self.input(2) if self.has_input(2) else None, groups=groups, stride=stride,
                             padding=padding)

    def gemm(self) -> Value:
        attributes = self.node.attributes
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
        check(plain, "alpha, beta, transA", "1, 1 and 0", "others")
        return self._matrix(bool(attributes.get("transB", 0)), self.input(2) if self.has_input(2) else None)

    def matmul(self) -> Value:
        found = self._matrix(False, None)
        return replace(found, bias=lambda bias: self._matrix(False, bias))

    def _matrix(self, transposed: bool, bias: Value | None) -> Pending:
        value, weight = self.quantized(), self._weight(1)
        check(weight.values.ndim == 2 and weight.values.size > 0, "weight", "two dimensions", weight.values.ndim)
        rows = weight.values if transposed else weight.values.T
        shape = self.builder.specs[value.layer].shape
        fits = value.shape == (1, size(shape)) and rows.shape[1] == size(shape)
        check(fits, "weight", f"of {size(shape)} values, as the input", list(weight.values.shape))
        return self._product(value, replace(weight, values=rows.reshape(len(rows), *shape)), bias=bias,
                             axis=0 if transposed else 1)

    def _weight(self, position: int) -> Constant:
        value = self.input(position)
        fits = isinstance(value, Constant) and value.values.dtype in (np.int8, np.uint8)
        check(fits, "weight", "int8 or uint8 constants behind DequantizeLinear", "others")
        return value

    def _product(self, value: LayerOutput, weight: Constant, *, axis: int, bias: Value | None,
                 **fields: Any) -> Pending:
        """A convolution with weights [O,C/groups,KH,KW]; ``axis`` of the outputs where their scales are stated."""
        outputs = len(weight.values)
        fits = len(weight.scales) == 1 or (len(weight.scales) == outputs and weight.axis == axis)
        check(fits, "weight", f"one scale, or one for each of {outputs} outputs", len(weight.scales))
        values, zero_point = signed_weights(weight.values, weight.zero_point)
        source = self.builder.specs[value.layer]
        sums = np.broadcast_to(source.scale * weight.scales, outputs)
        steps = np.rint(_real(bias, outputs) / sums)
        check(bool((abs(steps) <= _INT32_MAX).all()), "bias", "values that fit int32", "larger ones")

        def finish(name: str, scale: float, output_zero_point: int, clamp: Clamp) -> str:
            multiplier, shift = channel_multipliers(source.scale, weight.scales, scale, outputs)
            tensors = ConvTensors(weight=values, bias=steps.astype(np.int32), multiplier=multiplier, shift=shift,
                                  weight_zero_point=zero_point)
            return self.builder.convolve(name, value.layer, tensors, activation=clamp, output_scale=scale,
                                         output_zero_point=output_zero_point, **fields)

        if weight.values.shape[2:] == source.shape[1:] and not fields:
            shape = (1, outputs)
        else:
            # The sizes that come out are those of any quantization: asked of a layer that is not kept.
            shape = self._shape(partial(finish, "shape", 1.0, 0, EVERYTHING))
        return Pending(finish=finish, shape=shape, operator=self.node)

    def _shape(self, add: Callable[[], str]) -> tuple[int, ...]:
        name = add()
        del self.builder.layers[name]
        return 1, *self.builder.specs.pop(name).shape

    # Pools

    def max_pool(self) -> Value:
        value = self.quantized()
        windows = self._windows(value)

        def finish(name: str, scale: float, zero_point: int, clamp: Clamp) -> str:
            spec = self.builder.specs[value.layer]
            same = (spec.scale, spec.zero_point) == (scale, zero_point)
            if self.fuse and same and value.alone and self.builder.can_pool(value.layer):
                return self.builder.pooled(value.layer, **windows, clamp=clamp)
            return self._pool(MaxPoolLayer, value, windows, name, scale, zero_point, clamp)

        return self._pending(finish, value, MaxPoolLayer, windows)

    def average_pool(self) -> Value:
        value = self.quantized()
        windows = self._windows(value)
        counted = self.node.attributes.get("count_include_pad", 0)
        check(not counted or not any(windows["padding"]), "count_include_pad", "0 where there is padding", counted)
        return self._pending(partial(self._pool, AveragePoolLayer, value, windows), value, AveragePoolLayer, windows)

    def _pending(self, finish: Callable[..., str], value: LayerOutput, kind: type, windows: dict[str, Any]) -> Pending:
        shape = self._shape(lambda: self.builder.add(kind(name="shape", inputs=(value.layer,), **windows)))
        return Pending(finish=finish, shape=shape, operator=self.node)

    def _pool(self, kind: type, value: LayerOutput, windows: dict[str, Any], name: str, scale: float, zero_point: int,
              clamp: Clamp) -> str:
        """A pool, and its output in another quantization where that is asked for."""
        spec = self.builder.specs[value.layer]
        if (spec.scale, spec.zero_point) == (scale, zero_point):
            return self.builder.add(kind(name=name, inputs=(value.layer,), activation=clamp, **windows))
        kernel, stride = windows["kernel"], windows["stride"]
        if kind is AveragePoolLayer and not any(windows["padding"]) and max(kernel) <= MAX_KERNEL and (
                max(stride) <= MAX_STRIDE):  # A convolution of ones, which rounds but once.
            multiplier, shift = channel_multipliers(spec.scale, np.ones(1) / size(kernel), scale, spec.shape[0])
            tensors = ConvTensors(weight=np.ones((spec.shape[0], 1, *kernel), np.int8), multiplier=multiplier,
                                  shift=shift, bias=np.zeros(spec.shape[0], np.int32))
            return self.builder.convolve(name, value.layer, tensors, groups=spec.shape[0], stride=stride,
                                         activation=clamp, output_scale=scale, output_zero_point=zero_point)
        layer = self.builder.add(kind(name=f"{name}_pool", inputs=(value.layer,), **windows))
        return self.rescaled(name, layer, scale, zero_point, clamp)

    def _windows(self, value: LayerOutput) -> dict[str, Any]:
        attributes = self.node.attributes
        kernel = self.sizes("kernel_shape", 2, ())
        check(len(kernel) == 2 and min(kernel) >= 1, "kernel_shape", "two sizes", kernel)
        stride, dilation = self.sizes("strides", 2, (1, 1)), self.sizes("dilations", 2, (1, 1))
        check(dilation == (1, 1), "dilations", "1", dilation)
        check(not attributes.get("ceil_mode", 0), "ceil_mode", "0", attributes.get("ceil_mode"))
        self.map(value)
        return {"kernel": kernel, "stride": stride, "padding": self._padding(value, kernel, stride)}

    def _padding(self, value: LayerOutput, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
        """(top, bottom, left, right) of the operator itself."""
        automatic = self.node.attributes.get("auto_pad", "NOTSET")
        if automatic == "SAME_UPPER":
            return same_padding(value.shape[2:], kernel, stride)
        check(automatic in ("NOTSET", "VALID"), "auto_pad", "NOTSET, VALID or SAME_UPPER", automatic)
        top, left, bottom, right = self.sizes("pads", 4, (0, 0, 0, 0)) if automatic == "NOTSET" else (0, 0, 0, 0)
        check(min(top, left, bottom, right) >= 0, "pads", "at least 0", [top, left, bottom, right])
        return top, bottom, left, right

    def mean(self) -> Value:
        value = self.quantized()
        attributes = self.node.attributes
        keep = True
        if self.node.op == "ReduceMean":
            axes = (tuple(self.constant(1).ravel().tolist()) if self.has_input(1) else attributes.get("axes", ()))
            fits = isinstance(axes, tuple) and sorted(axis + 4 * (axis < 0) for axis in axes) == [2, 3]
            check(fits, "axes", "rows and columns of [1, C, H, W]", axes)
            keep = bool(attributes.get("keepdims", 1))
        channels = self.map(value)[0]

        def finish(name: str, scale: float, zero_point: int, clamp: Clamp) -> str:
            return self.builder.add(MeanLayer(name=name, inputs=(value.layer,), activation=clamp, output_scale=scale,
                                              output_zero_point=zero_point))

        return Pending(finish=finish, shape=(1, channels, 1, 1) if keep else (1, channels), operator=self.node)

    # Several inputs

    def add(self) -> Value:
        values = [self.input(0), self.input(1)]
        for first, second in (values, values[::-1]):
            if isinstance(first, Pending) and first.bias is not None and isinstance(second, (Constant, np.ndarray)):
                own, self.node = self.node, first.operator
                try:
                    return first.bias(second)
                finally:
                    self.node = own
        first, second = self.quantized(0), self.quantized(1)
        check(first.shape == second.shape, "inputs", f"two of one shape, the first is {list(first.shape)}",
              list(second.shape))

        def finish(name: str, scale: float, zero_point: int, clamp: Clamp) -> str:
            return self.builder.add(AddLayer(name=name, inputs=(first.layer, second.layer), activation=clamp,
                                             output_scale=scale, output_zero_point=zero_point))

        return Pending(finish=finish, shape=first.shape, operator=self.node)

    def concat(self) -> Value:
        values = [self.quantized(position) for position in range(len(self.node.inputs))]
        rank = len(values[0].shape)
        axis = self.node.attributes.get("axis")
        check(axis in (1, 1 - rank) and rank in (2, 4), "axis", "that of the channels, 1", axis)
        shapes = [(1, *self.builder.specs[value.layer].shape)[:rank] for value in values]
        for value, shape in zip(values, shapes, strict=True):
            check(value.shape == shape, "inputs", f"{list(shape)}, as it was computed", list(value.shape))
            check(shape[2:] == shapes[0][2:], "inputs", "maps of one size", list(shape))

        def finish(name: str, scale: float, zero_point: int, clamp: Clamp) -> str:
            parts = []
            for number, value in enumerate(values):
                spec, layer = self.builder.specs[value.layer], value.layer
                if (spec.scale, spec.zero_point) != (scale, zero_point):
                    layer = self.rescaled(f"{name}_scale{number}", layer, scale, zero_point, EVERYTHING)
                parts.append(self.builder.joinable(f"{name}_part{number}", layer))
            layer = self.builder.add(ConcatLayer(name=name, inputs=tuple(parts)))
            return layer if clamp == EVERYTHING else self.builder.clamp(f"{name}_clamp", layer, clamp)

        channels = sum(shape[1] for shape in shapes)
        return Pending(finish=finish, shape=(1, channels, *shapes[0][2:]), operator=self.node)


def _real(bias: Value | None, outputs: int) -> np.ndarray:
    """A bias as real numbers, float64 [outputs]."""
    if bias is None:
        return np.zeros(outputs)
    check(isinstance(bias, (Constant, np.ndarray)), "bias", "constants", "a tensor that is computed")
    values = np.asarray(bias.real if isinstance(bias, Constant) else bias, np.float64).ravel()
    check(values.shape == (outputs,) and bool(np.isfinite(values).all()), "bias", f"{outputs} numbers", values.shape)
    return values


OPERATORS: dict[str, Callable[[Converter], Value]] = {
    "Add": Converter.add, "AveragePool": Converter.average_pool, "Clip": Converter.clip, "Concat": Converter.concat,
    "Conv": Converter.conv, "DequantizeLinear": Converter.dequantize_linear, "Dropout": Converter.identity,
    "Flatten": Converter.reshape, "Gemm": Converter.gemm, "GlobalAveragePool": Converter.mean,
    "Identity": Converter.identity, "MatMul": Converter.matmul, "MaxPool": Converter.max_pool, "Pad": Converter.pad,
    "QuantizeLinear": Converter.quantize_linear, "ReduceMean": Converter.mean, "Relu": Converter.relu,
    "Reshape": Converter.reshape, "Softmax": Converter.softmax, "Squeeze": Converter.reshape,
    "Transpose": Converter.transpose}
"""What becomes of each operator that is known."""
