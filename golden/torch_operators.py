"""From PyTorch's operators to float layers as the engine has them: folded, fused, or refused by name."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from golden.checks import JobError, check
from golden.float_layers import FloatLayer, FloatNetwork
from golden.geometry import NO_PADDING
from golden.layers import (
    AddLayer,
    AveragePoolLayer,
    ConcatLayer,
    ConvLayer,
    LayerDescription,
    MaxPoolLayer,
    MeanLayer,
    TensorSpec,
)
from golden.torch_export import OUTPUT_OF, Call, export

ROWS, COLUMNS = 2, 3
"""Dimensions of [N,C,H,W]."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a tensor of the graph is: the output of ``layer``, or "input", perhaps lying flat.

    ``dimensions`` are those of the tensor, the batch included. ``alone``: nothing else takes the layer's output.
    ``edges`` (top, bottom, left, right) are zeros around it that no layer holds yet, ``host`` an operator behind it
    that is left to the host.
    """

    layer: str
    dimensions: int
    alone: bool = True
    edges: tuple[int, int, int, int] = NO_PADDING
    host: str | None = None


def read_network(module: nn.Module, example: Tensor) -> FloatNetwork:
    """``module`` in evaluation mode, for inputs such as ``example`` float [N,C,H,W] or [N,C], as float layers.

    Batch normalization is folded into the convolution before it where that has no other reader, else it is a 1x1
    depthwise convolution. ReLU and ReLU6 are the activation of the layer before, else of a 1x1 max-pool. A max-pool is
    a part of the convolution before it. A linear layer is a convolution whose kernel is the map. ``x[:, :, ::2, ::2]``
    and added channels of zeros are 1x1 convolutions of ones and zeros. Softmax at the end is left to the host.

    Raises JobError for any other operator, and for arguments that have no such form, with the submodule's path.
    """
    graph = export(module, example, _HANDLERS)
    reader = _Reader(graph.input, graph.input_shape, graph.batch)
    for call in graph.calls:
        reader.read(call)
    return reader.network(graph.output)


class _Reader:
    def __init__(self, input: Node, shape: tuple[int, ...], batch: int):
        check(len(shape) in (1, 3), "example_input", "[N,C,H,W] or [N,C]", f"{len(shape) + 1} dimensions")
        self.batch = batch
        self.shapes: dict[str, tuple[int, int, int]] = {"input": shape if len(shape) == 3 else (*shape, 1, 1)}
        self.layers: dict[str, FloatLayer] = {}
        self.values = {input: Value(layer="input", dimensions=1 + len(shape), alone=len(input.users) == 1)}
        self.joined: set[str] = {"input"}
        self.outputs: dict[str, list[tuple[str, FloatLayer | None]]] = {}

    def read(self, call: Call) -> None:
        """Add what ``call`` does. Raises JobError."""
        known = call.operator in _HANDLERS
        check(known, f"{call.place}: operator", f"one of {', '.join(OPERATORS)}", call.operator)
        value = _HANDLERS[call.operator](self, call)
        self.values[call.node] = replace(value, alone=value.alone and len(call.node.users) == 1)

    def network(self, output: Node) -> FloatNetwork:
        """All that has been read, ending with the value of ``output``. Raises JobError."""
        check(output in self.values and bool(self.layers), "module", "at least one layer", "none")
        check(not any(self.values[output].edges), "module", "a convolution behind pad", "the output")
        # A layer that has changed since a submodule gave it as its output has taken up operators behind that.
        ends = {path: tuple(name if self.layers.get(name, 0) is layer else None for name, layer in marks)
                for path, marks in self.outputs.items()}
        inside = {path: name for path, marks in self.outputs.items() for name, _ in marks if name in self.layers}
        return FloatNetwork(input_shape=self.shapes["input"], layers=tuple(self.layers.values()), ends=ends,
                            inside=inside, host=self.values[output].host)

    # Values and layers

    def value(self, call: Call, node: Any, *, name: str = "", edges: bool = False) -> Value:
        """The value of a node that ``call`` takes, which has zeros around it only if ``edges``."""
        known = isinstance(node, Node) and node in self.values
        call.check(known, name, "a tensor that is computed from the input", "a constant")
        value = self.values[node]
        call.check(value.host is None, name, f"nothing behind {value.host}, which is left to the host", "an operator")
        call.check(edges or not any(value.edges), name, "no zeros around it but those of a convolution",
                   f"a pad of {value.edges}")
        return value

    def argument(self, call: Call, name: str, *, dimensions: int | None = None, edges: bool = False) -> Value:
        """The value of an argument, of so many dimensions."""
        value = self.value(call, call.arguments[name], name=name, edges=edges)
        shape = "[N,C,H,W]" if dimensions == 4 else "[N,C]"
        call.check(dimensions in (None, value.dimensions), name, shape, f"{value.dimensions} dimensions")
        return value

    def shape(self, value: Value) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.shapes[value.layer]

    def add(self, call: Call, kind: type[LayerDescription], *values: Value, exact: bool = False,
            weight: Tensor | None = None, bias: Tensor | None = None, **fields: Any) -> Value:
        """The output of a new layer."""
        name = self._new_name(call, "selection" if exact else kind.op)
        description = kind(name=name, inputs=tuple(value.layer for value in values), **fields)
        if weight is not None:
            weight, bias = weight.float(), (weight.new_zeros(len(weight)) if bias is None else bias).float()
        self._put(call, FloatLayer(description=description, weight=weight, bias=bias, exact=exact))
        return Value(layer=name, dimensions=len(call.shape))

    def convolve(self, call: Call, value: Value, weight: Tensor, bias: Tensor | None = None, **fields: Any) -> Value:
        """The output of a new convolution with ``weight`` [O,C/groups,KH,KW] and ``bias`` [O]."""
        return self.add(call, ConvLayer, value, weight=weight, bias=bias, out_channels=len(weight),
                        kernel=tuple(weight.shape[2:]), **fields)

    def changed(self, call: Call, value: Value, *, weight: Tensor | None = None, bias: Tensor | None = None,
                exact: bool = False, **fields: Any) -> Value:
        """The output of the layer of ``value``, which nothing else takes, with other fields or tensors."""
        layer = self.layers[value.layer]
        if weight is not None:
            fields["out_channels"] = len(weight)
            layer = replace(layer, weight=weight.float(), bias=bias.float(), exact=exact)
        self._put(call, replace(layer, description=replace(layer.description, **fields)))
        return value

    def own_convolution(self, value: Value) -> FloatLayer | None:
        """The layer that ``value`` comes from, if it is a convolution that may be changed: nothing else takes it."""
        layer = self.layers.get(value.layer)
        return layer if value.alone and layer is not None and layer.description.op == "conv" else None

    def _put(self, call: Call, layer: FloatLayer) -> None:
        sources = [TensorSpec(shape=self.shapes[name], scale=1.0, zero_point=0) for name in layer.inputs]
        try:
            self.shapes[layer.name] = layer.description.output_shape(sources, layer.description.sizes(sources))
        except JobError as error:
            raise JobError(f"{call.place}: {call.operator}: {error}") from None
        self.layers[layer.name] = layer

    def _new_name(self, call: Call, op: str) -> str:
        """A layer's name after the submodule: its path where it is one operator, else with the operation's name."""
        words = [call.path, "" if call.path and call.is_whole_module else op]
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", "_".join(filter(None, words)))
        number, name = 1, stem
        while name in self.shapes:
            number += 1
            name = f"{stem}_{number}"
        return name

    # Convolutions

    def conv2d(self, call: Call) -> Value:
        value = self.argument(call, "input", dimensions=4, edges=True)
        weight, arguments = call.tensor("weight"), call.arguments
        dilation, stride = _pair(arguments["dilation"]), _pair(arguments["stride"])
        call.check(dilation == (1, 1), "dilation", "1", dilation)
        padding = arguments["padding"]
        if isinstance(padding, str):  # As torch has it, which pads the end by the odd pixel.
            total = [size - 1 if padding == "same" else 0 for size in weight.shape[2:]]
            padding = [edge for size in total for edge in (size // 2, size - size // 2)]
        else:
            padding = [edge for size in _pair(padding) for edge in (size, size)]
        return self.convolve(call, replace(value, edges=NO_PADDING), weight, call.tensor("bias"), stride=stride,
                             padding=_sum(padding, value.edges), groups=arguments["groups"])

    def linear(self, call: Call) -> Value:
        value = self.argument(call, "input", dimensions=2)
        weight = call.tensor("weight")
        return self.convolve(call, value, weight.reshape(-1, *self.shape(value)), call.tensor("bias"))

    def batch_norm(self, call: Call) -> Value:
        value = self.argument(call, "input")
        channels, *extent = self.shape(value)
        call.check(value.dimensions == 4 or extent == [1, 1], "input", "[N,C,H,W], or [N,C] of maps of one pixel",
                   f"maps {extent} that lie flat")
        call.check(not call.arguments.get("training"), "", "statistics of its own", "those of the batch")
        mean, variance = call.tensor("running_mean"), call.tensor("running_var")
        gain, offset = call.tensor("weight"), call.tensor("bias")
        scale = (1 if gain is None else gain) / (variance.double() + call.arguments["eps"]).sqrt()
        offset = (0 if offset is None else offset) - mean * scale
        layer = self.own_convolution(value)
        if layer is None or layer.description.activation != "none" or layer.description.pool is not None:
            return self.convolve(call, value, scale.reshape(-1, 1, 1, 1), offset, groups=channels)
        return self.changed(call, value, weight=layer.weight * scale.reshape(-1, 1, 1, 1),
                            bias=layer.bias * scale + offset)

    # Selections: steps and channels of zeros

    def slice(self, call: Call) -> Value:
        value, arguments = self.argument(call, "self"), call.arguments
        sizes = (self.batch, *self.shape(value))
        dimension = arguments["dim"] % value.dimensions
        size = math.prod(sizes[1:]) if (value.dimensions, dimension) == (2, 1) else sizes[dimension]
        start, end, step = arguments["start"] or 0, arguments["end"], arguments["step"]
        whole = start == 0 and (end is None or end >= size)
        if whole and step == 1:
            return value
        call.check(whole and value.dimensions == 4 and dimension in (ROWS, COLUMNS), "",
                   "steps over whole rows or columns, as x[:, :, ::2, ::2]",
                   f"{start}:{end}:{step} of dimension {dimension}")
        value, layer = self._selection(call, value)
        stride = list(layer.description.stride)
        stride[dimension - ROWS] *= step
        return self.changed(call, value, stride=tuple(stride))

    def pad(self, call: Call) -> Value:
        value = self.argument(call, "self", dimensions=4, edges=True)
        arguments = call.arguments
        plain = arguments["mode"] == "constant" and not arguments["value"]
        call.check(plain, "value", "zeros", f"{arguments['mode']} {arguments['value']}")
        left, right, top, bottom, before, after, *batch = (*arguments["pad"], *[0] * 8)[:8]
        least = min(left, right, top, bottom, before, after)
        call.check(least >= 0 and not any(batch), "pad", "zeros added to rows, columns or channels", arguments["pad"])
        if before or after:
            call.check(not any(value.edges), "pad", "channels to be added before rows and columns", value.edges)
            value, layer = self._selection(call, value)
            weight = torch.nn.functional.pad(layer.weight, (0, 0, 0, 0, 0, 0, before, after))
            value = self.changed(call, value, weight=weight, bias=torch.zeros(len(weight)), exact=True)
        return replace(value, edges=_sum(value.edges, (top, bottom, left, right)))

    def _selection(self, call: Call, value: Value) -> tuple[Value, FloatLayer]:
        """``value`` by way of a convolution of ones and zeros, that before it if it is one."""
        layer = self.own_convolution(value)
        if layer is None or not layer.exact or layer.description.activation != "none" or layer.description.pool:
            channels = self.shape(value)[0]
            weight = torch.eye(channels).reshape(channels, channels, 1, 1)
            value = replace(self.convolve(call, value, weight, exact=True), dimensions=4)
        return value, self.layers[value.layer]

    # Activations

    def relu(self, call: Call) -> Value:
        return self._activated(call, "relu")

    def relu6(self, call: Call) -> Value:
        return self._activated(call, "relu6")

    def clamp(self, call: Call) -> Value:
        arguments = call.arguments
        low, high = (arguments.get(name, arguments.get(f"{name}_val")) for name in ("min", "max"))
        fits = (low, high) in ((0, None), (0, 6))
        call.check(fits, "", "0 and no limit (relu), or 0 and 6 (relu6)", f"{low} and {high}")
        return self._activated(call, "relu" if high is None else "relu6")

    def _activated(self, call: Call, activation: str) -> Value:
        value = self.argument(call, "self")
        layer = self.layers.get(value.layer)
        before = getattr(layer.description, "activation", None) if layer else None
        if before in (activation, "relu6"):
            return value
        if before is None or not value.alone:
            return self.add(call, MaxPoolLayer, value, kernel=(1, 1), activation=activation)
        return self.changed(call, value, activation=activation)  # As the largest value's, so that of a max-pool.

    # Pools

    def max_pool2d(self, call: Call) -> Value:
        value, arguments = self.argument(call, "self", dimensions=4, edges=True), call.arguments
        dilation = _pair(arguments["dilation"])
        call.check(dilation == (1, 1), "dilation", "1", dilation)
        layer = self.layers.get(value.layer)
        positive = getattr(layer and layer.description, "activation", "none") != "none"
        call.check(positive or not any(value.edges), "self", "no zeros around values that may be below",
                   f"a pad of {value.edges}")
        kernel, stride, padding = self._windows(call, value)
        value = replace(value, edges=NO_PADDING)
        layer = self.own_convolution(value)
        if layer is None or layer.description.pool is not None:
            return self.add(call, MaxPoolLayer, value, kernel=kernel, stride=stride, padding=padding)
        return self.changed(call, value, pool=(*kernel, *stride), pool_padding=padding)

    def avg_pool2d(self, call: Call) -> Value:
        value, arguments = self.argument(call, "self", dimensions=4), call.arguments
        kernel, stride, padding = self._windows(call, value)
        inside = not arguments["count_include_pad"] or not any(_pair(arguments["padding"]))
        call.check(inside, "count_include_pad", "False where there is padding", True)
        divisor = arguments["divisor_override"]
        call.check(divisor in (None, math.prod(kernel)), "divisor_override", "none", divisor)
        if kernel == self.shape(value)[1:] and not any(padding):
            return self._mean(call, value)
        return self.add(call, AveragePoolLayer, value, kernel=kernel, stride=stride, padding=padding)

    def _windows(self, call: Call, value: Value) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]:
        """Kernel, stride and padding of a pool, the padding as far as its last windows reach."""
        kernel = _pair(call.arguments["kernel_size"])
        stride = _pair(call.arguments["stride"] or kernel)
        stated = _pair(call.arguments["padding"])
        padding = []
        for axis, size in enumerate(self.shape(value)[1:]):
            before = stated[axis] + value.edges[2 * axis]
            reach = (call.shape[ROWS + axis] - 1) * stride[axis] + kernel[axis]
            padding += [before, max(reach - size - before, 0)]
        return kernel, stride, tuple(padding)

    def adaptive_avg_pool2d(self, call: Call) -> Value:
        value = self.argument(call, "self", dimensions=4)
        extent, wanted = self.shape(value)[1:], call.shape[ROWS:]
        if wanted == (1, 1):
            return self._mean(call, value)
        call.check(all(size % count == 0 for size, count in zip(extent, wanted, strict=True)), "output_size",
                   f"a divisor of the map {list(extent)}", list(wanted))
        kernel = tuple(size // count for size, count in zip(extent, wanted, strict=True))
        return value if kernel == (1, 1) else self.add(call, AveragePoolLayer, value, kernel=kernel)

    def mean(self, call: Call) -> Value:
        value = self.argument(call, "self", dimensions=4)
        dimensions = call.arguments.get("dim") or range(4)
        found = sorted(dimension % 4 for dimension in dimensions)
        call.check(found == [ROWS, COLUMNS], "dim", "rows and columns, 2 and 3", found)
        return self._mean(call, value)

    def _mean(self, call: Call, value: Value) -> Value:
        if self.shape(value)[1:] == (1, 1):
            return replace(value, dimensions=len(call.shape))
        return self.add(call, MeanLayer, value)

    # Of several tensors

    def addition(self, call: Call) -> Value:
        values = [self.argument(call, name) for name in ("self", "other")]
        call.check(call.arguments["alpha"] == 1, "alpha", "1", call.arguments["alpha"])
        first, second = map(self.shape, values)
        call.check(first == second, "other", f"the map of the first, {list(first)}", list(second))
        return self.add(call, AddLayer, *values)

    def cat(self, call: Call) -> Value:
        values = [self.value(call, node, name="tensors") for node in call.arguments["tensors"]]
        dimension = call.arguments["dim"] % len(call.shape)
        call.check(dimension == 1, "dim", "1, the channels", dimension)
        parts = []
        for value in values:
            if value.layer in self.joined:  # A tensor lies in one concatenation alone, as it is not copied.
                value = self.add(call, MaxPoolLayer, value, kernel=(1, 1))
            self.joined.add(value.layer)
            parts.append(value)
        return self.add(call, ConcatLayer, *parts) if len(parts) > 1 else parts[0]

    # Without arithmetic

    def view(self, call: Call) -> Value:
        value = self.argument(call, "self")
        batch, *sizes = call.shape
        shape = self.shape(value)
        features = [math.prod(shape)]
        if sizes == features and value.layer == "input" and value.alone:
            self.shapes["input"] = (*features, 1, 1)
        pixel = [*shape[:1], *[1] * (len(sizes) - 1)] if shape[1:] == (1, 1) else None
        call.check(batch == self.batch and sizes in (features, list(shape), pixel), "size",
                   f"the map {list(shape)} or all of it flat, {features}, for each image", sizes)
        return replace(value, dimensions=len(call.shape))

    def same(self, call: Call) -> Value:
        return self.value(call, call.node.args[0], edges=True)

    def dropout(self, call: Call) -> Value:
        call.check(not call.arguments["train"], "train", "False", True)
        return self.value(call, call.arguments["input"], edges=True)

    def output_of(self, call: Call) -> Value:
        value = self.values.get(call.node.args[0])
        if value is None:
            return self.value(call, call.node.args[0])
        channels = value.dimensions == 4 or self.shape(value)[1:] == (1, 1)
        # With other readers, those would not see winners that are chosen here.
        whole = channels and value.alone and not any(value.edges) and not value.host
        layer = self.layers.get(value.layer) if whole else None
        self.outputs.setdefault(call.node.args[1], []).append((value.layer, layer))
        return value

    def softmax(self, call: Call) -> Value:
        value = self.argument(call, "self")
        dimension = call.arguments["dim"] % value.dimensions
        call.check(dimension == 1, "dim", "1, the channels", dimension)
        return replace(value, host=call.operator)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of an argument that may state one number for both."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * 2 if len(values) == 1 else values


def _sum(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))


_HANDLERS: dict[str, Callable[[_Reader, Call], Value]] = {
    "conv2d": _Reader.conv2d, "linear": _Reader.linear, "batch_norm": _Reader.batch_norm,
    "relu": _Reader.relu, "relu6": _Reader.relu6, "hardtanh": _Reader.clamp, "clamp": _Reader.clamp,
    "clamp_min": _Reader.clamp, "max_pool2d": _Reader.max_pool2d, "avg_pool2d": _Reader.avg_pool2d,
    "adaptive_avg_pool2d": _Reader.adaptive_avg_pool2d, "mean": _Reader.mean, "add": _Reader.addition,
    "cat": _Reader.cat, "pad": _Reader.pad, "slice": _Reader.slice, "view": _Reader.view, "reshape": _Reader.view,
    "flatten": _Reader.view, "squeeze": _Reader.view, "unsqueeze": _Reader.view, "clone": _Reader.same,
    "alias": _Reader.same, "contiguous": _Reader.same, "getitem": _Reader.same, "dropout": _Reader.dropout,
    "feature_dropout": _Reader.dropout, "softmax": _Reader.softmax, "log_softmax": _Reader.softmax,
    OUTPUT_OF: _Reader.output_of}
OPERATORS = tuple(sorted(_HANDLERS.keys() - {"getitem", OUTPUT_OF}))
"""The names of the operators that can be imported."""
