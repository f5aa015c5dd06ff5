"""From TFLite's operators to the layers of an int8 network: equal to its reference kernels, or refused by name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from golden.checks import JobError, check
from golden.conv_tensors import ConvTensors
from golden.geometry import NO_PADDING, same_padding
from golden.int8_builder import LayerOutput, signed_weights, spread_weights, without_layer
from golden.layers import AddLayer, AveragePoolLayer, ConcatLayer, MaxPoolLayer, MeanLayer
from golden.tflite_file import Operator, Tensor
from golden.tflite_rounding import nearest_factors
from golden.tflite_scales import (
    channel_multipliers,
    joined_table,
    matching_factor,
    rescaling,
    tensor_multipliers,
)
from golden.tflite_values import QUANTIZED, GraphReader, scale_of, zero_point_of

_PADDINGS = ("SAME", "VALID")


class Converter(GraphReader):
    """Adds a layer for each operator that computes; ``places`` says which operator a layer comes from."""

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.places: dict[str, str] = {}

    def read(self, operator: Operator) -> None:
        """Add what ``operator`` does. Raises JobError that names it."""
        self.operator = operator
        known = set(self.builder.layers)
        try:
            check(len(operator.outputs) == 1, "outputs", "1", len(operator.outputs))
            output = operator.outputs[0]
            free = output not in self.values and self.model.tensors[output].data is None
            check(free, "output", "a tensor that nothing else computes", output)
            self.put(output, OPERATORS[operator.code](self, operator))
        except JobError as error:
            raise JobError(f"{operator.place}: {without_layer(error)}") from None
        self.places |= dict.fromkeys(set(self.builder.layers) - known, operator.place)

    # Convolutions

    def conv(self, operator: Operator) -> LayerOutput:
        return self._conv(self.value(edges=True), depthwise=False)

    def depthwise(self, operator: Operator) -> LayerOutput:
        return self._conv(self.value(edges=True), depthwise=True)

    def _conv(self, value: LayerOutput, *, depthwise: bool) -> LayerOutput:
        weight = self.tensor(1)
        values = weight.values(*QUANTIZED)
        check(values.ndim == 4 and values.size > 0, "weight", "four dimensions", list(values.shape))
        if depthwise:
            check(len(values) == 1, "weight", "[1, rows, columns, channels]", list(values.shape))
        values = values.transpose(3, 0, 1, 2) if depthwise else values.transpose(0, 3, 1, 2)
        dilation, stride = ([self.option(f"{kind}{axis}{end}") for axis in "HW"]
                            for kind, end in (("Dilation", "Factor"), ("Stride", "")))
        check(min(dilation) >= 1 and max(dilation) <= 11, "dilation", "1..11", dilation)
        check(min(stride) >= 1, "stride", "at least 1", stride)
        wide = [(size - 1) * step + 1 for size, step in zip(values.shape[2:], dilation, strict=True)]
        check(max(wide) <= 11, "weight", "a kernel of 1..11", wide)
        zero_point = int(weight.zero_points[0]) if len(weight.zero_points) else 0
        check(-128 <= zero_point <= 255, "weight", "a zero point in the range of its type", zero_point)
        values = spread_weights(values, dilation, zero_point)
        if any(value.edges) and not all(size > edge for size, edge in zip(
                (wide[0], wide[0], wide[1], wide[1]), self._padding(value, wide, stride), strict=True)):
            value = self.padded(value)
        padding = self._padding(value, wide, stride)
        channels = self.map(value)[0]
        groups, depth = (channels, 1) if depthwise else divmod(channels, values.shape[1])
        if not depthwise:
            check(depth == 0, "weight", f"a divisor of {channels} input channels", values.shape[1])
        return self.result(self._convolved(replace(value, edges=NO_PADDING), values, axis=3 if depthwise else 0,
                                           groups=groups, stride=tuple(stride), padding=padding))

    def _padding(self, value: LayerOutput, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
        """(top, bottom, left, right) of a convolution: its own, and the zeros around its input."""
        top, bottom, left, right = value.edges
        _, rows, columns = self.builder.specs[value.layer].shape
        own = (same_padding((rows + top + bottom, columns + left + right), kernel, stride)
               if self.option("Padding", _PADDINGS) == "SAME" else NO_PADDING)
        return tuple(first + second for first, second in zip(own, value.edges, strict=True))

    def fully_connected(self, operator: Operator) -> LayerOutput:
        value = self.value()
        check(not operator.options or self.option("WeightsFormat") == 0, "weight", "the plain format", "another")
        values = self.tensor(1).values(*QUANTIZED)
        channels, rows, columns = self.builder.specs[value.layer].shape
        size = channels * rows * columns
        fits = values.ndim == 2 and len(values) >= 1 and values.shape[1] == size
        check(fits, "weight", f"[outputs, {size}], as the input", list(values.shape))
        values = values.reshape(-1, rows, columns, channels).transpose(0, 3, 1, 2)
        layer = self._convolved(value, values, axis=0)
        stated = self.model.tensors[operator.outputs[0]].shape
        check(math.prod(stated) == len(values) == stated[-1], "output", f"[1, {len(values)}]", list(stated))
        return self.result(layer, shape=stated)

    def _convolved(self, value: LayerOutput, values: np.ndarray, *, axis: int, **fields: Any) -> str:
        """A convolution with weights [O,C/groups,KH,KW] as they are in the model; ``axis`` of their scales there."""
        weight, output, outputs = self.tensor(1), self.same_type(0), len(values)
        unsigned = output.type == "UINT8"
        check(weight.type == output.type, "weight", output.type, weight.type)
        scales = np.asarray(weight.scales)
        whole = len(scales) == 1
        check(whole or (len(scales) == outputs and weight.axis == axis and not unsigned), "weight",
              "one scale" if unsigned else f"one scale, or {outputs} of axis {axis}",
              f"{len(scales)} of axis {weight.axis}")
        check(bool(np.isfinite(scales).all() and (scales >= 0).all()), "weight", "scales of at least 0", "others")
        source_scale, output_scale = scale_of(self.tensor(0)), scale_of(output)
        dense = self.operator.code == "FULLY_CONNECTED"
        rounding = "twice"
        if dense:
            factors = np.broadcast_to(source_scale * scales.astype(np.float64) / output_scale, outputs)
            multiplier, shift, rounding = nearest_factors(factors, self.clamp(output), zero_point_of(output))
        elif unsigned:
            multiplier, shift = tensor_multipliers(source_scale, scales[0], output_scale, outputs)
        else:
            multiplier, shift = channel_multipliers(source_scale, scales, output_scale, outputs)
        zero_points = np.asarray(weight.zero_points)
        check(not zero_points.any() or (whole and (unsigned or dense)), "weight", "zero points of 0",
              zero_points[zero_points != 0][:1])
        values, zero_point = signed_weights(values, int(zero_points[0]) if whole else 0)
        tensors = ConvTensors(weight=values, bias=self._bias(outputs), multiplier=multiplier, shift=shift,
                              weight_zero_point=zero_point, rounding=rounding)
        return self.builder.convolve(self.name(), value.layer, tensors, activation=self.clamp(output),
                                     output_scale=output_scale, output_zero_point=zero_point_of(output), **fields)

    def _bias(self, outputs: int) -> np.ndarray:
        inputs = self.operator.inputs
        if len(inputs) < 3 or inputs[2] < 0:
            return np.zeros(outputs, np.int32)
        bias = self.tensor(2).values("INT32")
        check(bias.shape == (outputs,), "bias", f"[{outputs}]", list(bias.shape))
        return np.ascontiguousarray(bias)

    # Poolings

    def max_pool(self, operator: Operator) -> LayerOutput:
        value, output = self.value(), self.same_quantization()
        windows, clamp = self._windows(value), self.clamp(output)
        if self.fuse and value.alone and self.builder.can_pool(value.layer):
            return self.result(self.builder.pooled(value.layer, **windows, clamp=clamp))
        return self._pool(MaxPoolLayer, value, windows, activation=clamp)

    def average_pool(self, operator: Operator) -> LayerOutput:
        value, output = self.value(), self.same_quantization()
        ties = "up" if output.type == "UINT8" else "away"
        return self._pool(AveragePoolLayer, value, self._windows(value), activation=self.clamp(output), ties=ties)

    def _pool(self, kind: type, value: LayerOutput, windows: dict[str, Any], **fields: Any) -> LayerOutput:
        return self.result(self.builder.add(kind(name=self.name(), inputs=(value.layer,), **windows, **fields)))

    def _windows(self, value: LayerOutput) -> dict[str, Any]:
        kernel, stride = ([self.option(f"{kind}{axis}") for axis in ends]
                          for kind, ends in (("Filter", ("Height", "Width")), ("Stride", "HW")))
        extent = self.map(value)[1:]
        check(min(*kernel, *stride) >= 1, "filter, stride", "at least 1", [*kernel, *stride])
        check(max(kernel) < 2**16 and max(stride) < 2**16, "filter, stride", "below 65536", [*kernel, *stride])
        padding = same_padding(extent, kernel, stride) if self.option("Padding", _PADDINGS) == "SAME" else NO_PADDING
        return {"kernel": tuple(kernel), "stride": tuple(stride), "padding": padding}

    def mean(self, operator: Operator) -> LayerOutput:
        value, output = self.value(), self.same_type(0)
        axes = self.tensor(1).values("INT32").ravel().tolist()
        rank = len(value.shape)
        fits = rank == 4 and sorted({axis % rank for axis in axes if -rank <= axis < rank}) == [1, 2]
        check(fits and all(-rank <= axis < rank for axis in axes), "axes", "height and width of [1, H, W, C]", axes)
        channels = self.map(value)[0]
        layer = self.builder.add(MeanLayer(name=self.name(), inputs=(value.layer,), output_scale=scale_of(output),
                                           output_zero_point=zero_point_of(output)))
        return self.result(layer, shape=(1, channels) if len(output.shape) == 2 else None)

    # Several inputs

    def add(self, operator: Operator) -> LayerOutput:
        values, output = [self.value(0), self.value(1)], self.same_type(0, 1)
        check(values[0].shape == values[1].shape, "inputs", f"two of one shape, the first is {list(values[0].shape)}",
              list(values[1].shape))
        layer = self.builder.add(AddLayer(
            name=self.name(), inputs=tuple(value.layer for value in values), activation=self.clamp(output),
            output_scale=scale_of(output), output_zero_point=zero_point_of(output)))
        return self.result(layer, shape=values[0].shape)

    def concat(self, operator: Operator) -> LayerOutput:
        check(len(operator.inputs) >= 1, "inputs", "at least one", "none")
        values = [self.value(position) for position in range(len(operator.inputs))]
        output = self.same_type(*range(len(values)))
        rank = len(values[0].shape)
        axis = self.option("Axis")
        check(axis in (rank - 1, -1) and rank in (2, 4), "axis", "that of the channels", axis)
        check(self.clamp(output) == (-128, 127), "activation", "none", "another")
        parts = []
        for position, value in enumerate(values):
            self.map(value)
            layer = self._requantized(position, value, output)
            parts.append(self.builder.joinable(self.name(f"_part{position}"), layer))
        layer = self.builder.add(ConcatLayer(name=self.name(), inputs=tuple(parts)))
        channels, rows, columns = self.builder.specs[layer].shape
        return self.result(layer, shape=(1, channels) if rank == 2 else (1, rows, columns, channels))

    def _requantized(self, position: int, value: LayerOutput, output: Tensor) -> str:
        """An input in the quantization of the output: uint8 models have others, TFLite refuses that for int8."""
        found = scale_of(self.tensor(position)), zero_point_of(self.tensor(position))
        wanted = scale_of(output), zero_point_of(output)
        if found == wanted:
            return value.layer
        check(output.type == "UINT8", "inputs", f"the output's scale {wanted[0]} and zero point {wanted[1]}",
              f"{found[0]} and {found[1]}")
        factor = matching_factor(joined_table(*found, *wanted), found, wanted)
        check(factor is not None, "inputs", "a scale whose ratio to the output's is that of integers", found[0])
        return self.builder.rescale(self.name(f"_scale{position}"), value.layer, factor, scale=wanted[0],
                                    zero_point=wanted[1])

    # Shapes

    def reshape(self, operator: Operator) -> LayerOutput:
        tensor, stated = self.tensor(0), self.model.tensors[operator.outputs[0]].shape
        check(tensor.number in self.values, f"tensor {tensor.number}", "one that is computed before", "another")
        value = self.values[tensor.number]
        if any(value.edges):
            value = self.padded(value)
        check(math.prod(stated) == math.prod(value.shape), "output", f"{math.prod(value.shape)} values", list(stated))
        check(len(stated) >= 1 and stated[0] == 1, "output", "a batch of 1", list(stated))
        if not value.host and tensor.type in QUANTIZED:
            self.quantized(tensor)
            self.same_quantization()
        return replace(value, shape=stated)

    def pad(self, operator: Operator) -> LayerOutput:
        value, _ = self.value(edges=True), self.same_quantization()
        paddings = self.tensor(1).values("INT32", "INT64")
        rank = len(value.shape)
        check(paddings.shape == (rank, 2) and rank == 4, "paddings", "[4, 2]", list(paddings.shape))
        check(bool((paddings >= 0).all() and (paddings < 2**16).all()), "paddings", "0..65535", paddings.tolist())
        batch, rows, columns, channels = paddings.tolist()
        check(batch == [0, 0], "paddings", "none of the batch", batch)
        stated = self.model.tensors[operator.outputs[0]].shape
        shape = tuple(size + sum(ends) for size, ends in zip(value.shape, paddings.tolist(), strict=True))
        check(stated == shape, "output", f"{list(shape)}, as the operator computes", list(stated))
        edges = tuple(first + second for first, second in zip(value.edges, (*rows, *columns), strict=True))
        value = replace(value, shape=shape, edges=edges)
        return value if self.fuse and channels == [0, 0] else self.padded(value, *channels)

    # Activations and quantization

    def relu(self, operator: Operator) -> LayerOutput:
        value, output = self.value(), self.same_type(0)
        clamp = self.clamp(output, operator.code)
        found, wanted = ((scale_of(one), zero_point_of(one)) for one in (self.tensor(0), output))
        if found != wanted:
            layer = self.builder.rescale(self.name(), value.layer, rescaling(found[0], wanted[0], single=True),
                                         scale=wanted[0], zero_point=wanted[1], clamp=clamp)
        elif self.fuse and value.alone and self.builder.can_clamp(value.layer):
            layer = self.builder.clamped(value.layer, clamp)
        else:
            layer = self.builder.clamp(self.name(), value.layer, clamp)
        return self.result(layer, shape=value.shape)

    def quantize(self, operator: Operator) -> LayerOutput:
        source, output = self.tensor(0), self.output()
        if source.type == "FLOAT32":
            check(source.number in self.model.inputs, "input", "the model's own, where it is FLOAT32", "another")
            value = self.values[source.number]
            check(output.shape == value.shape, "output", list(value.shape), list(output.shape))
            check(self.users[source.number] == 1, "input", "one reader, where it is FLOAT32", self.users[source.number])
            return value
        value = self.value()
        check(output.shape == value.shape, "output", list(value.shape), list(output.shape))
        found, wanted = ((scale_of(one), zero_point_of(one)) for one in (source, output))
        if found == wanted:
            return value
        layer = self.builder.rescale(self.name(), value.layer, rescaling(found[0], wanted[0], single=False),
                                     scale=wanted[0], zero_point=wanted[1])
        return self.result(layer, shape=value.shape)

    # Left to the host

    def hosted(self, operator: Operator) -> LayerOutput:
        tensor = self.tensor(0)
        check(tensor.number in self.values, f"tensor {tensor.number}", "one that is computed before", "another")
        value = self.values[tensor.number]
        if not value.host:
            value = self.value()
        return replace(value, host=(*value.host, operator.code.lower()))


OPERATORS: dict[str, Callable[[Converter, Operator], LayerOutput]] = {
    "ADD": Converter.add, "AVERAGE_POOL_2D": Converter.average_pool, "CONCATENATION": Converter.concat,
    "CONV_2D": Converter.conv, "DEPTHWISE_CONV_2D": Converter.depthwise, "DEQUANTIZE": Converter.hosted,
    "FULLY_CONNECTED": Converter.fully_connected, "MAX_POOL_2D": Converter.max_pool, "MEAN": Converter.mean,
    "PAD": Converter.pad, "QUANTIZE": Converter.quantize, "RELU": Converter.relu, "RELU6": Converter.relu,
    "RESHAPE": Converter.reshape, "SOFTMAX": Converter.hosted}
"""What becomes of each operator that is known."""
