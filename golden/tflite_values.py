"""The values of a TFLite graph while it becomes a network: which layer gives them, in which shape, who takes them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from golden.checks import check
from golden.int8_builder import Int8Builder, LayerOutput
from golden.tflite_file import Model, Operator, Tensor
from golden.tflite_scales import ACTIVATIONS, activation_clamp

UNSIGNED = 128
"""What is subtracted from uint8 values."""
QUANTIZED = ("INT8", "UINT8")
_NAMES = {"AVERAGE_POOL_2D": "average_pool", "CONCATENATION": "concat", "CONV_2D": "conv",
          "DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "fc", "MAX_POOL_2D": "max_pool"}
"""How layers are called after operators whose name is another."""
_ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


class GraphReader:
    """The values of ``model``, operator by operator, and the layers in ``builder``.

    ``fuse``: activations, max-pools and pads become a part of the convolution that they belong to; else each operator
    that computes is a layer. ``tensors`` gives the layer whose output a tensor is, by its number. Its methods raise
    JobError; ``operator`` is the one in work.
    """

    def __init__(self, model: Model, *, fuse: bool):
        self.model, self.fuse, self.builder = model, fuse, Int8Builder()
        self.users = Counter([number for one in model.operators for number in one.inputs] + list(model.outputs))
        self.values: dict[int, LayerOutput] = {}
        self.tensors: dict[int, str] = {}
        self.operator: Operator | None = None

    def set_input(self, number: int) -> None:
        """Take tensor ``number`` as the network's input; a float one is known when it is quantized."""
        tensor = self.model.tensors[number]
        check(len(tensor.shape) >= 1 and tensor.shape[0] == 1, "input", "a batch of 1", list(tensor.shape))
        self.put(number, LayerOutput(layer="input", shape=tensor.shape, alone=True))

    def finish(self, number: int) -> LayerOutput:
        """The value of the graph's output, whose layer is now the last. Raises JobError."""
        value = self.values[number]
        if any(value.edges):
            value = self.padded(value)
        check(value.layer != "input", "output", "one that a layer computes", "the input")
        return value

    def put(self, number: int, value: LayerOutput) -> None:
        self.values[number] = replace(value, alone=value.alone and self.users[number] == 1)
        if not any(value.edges) and not value.host:
            self.tensors[number] = value.layer

    # What operators take

    def name(self, suffix: str = "") -> str:
        """A layer's name: the operation and the operator's number."""
        return f"{_NAMES.get(self.operator.code, self.operator.code.lower())}_{self.operator.number}{suffix}"

    def tensor(self, position: int) -> Tensor:
        """An input of the operator. Raises JobError where it has none."""
        inputs = self.operator.inputs
        check(position < len(inputs) and inputs[position] >= 0, "inputs", f"at least {position + 1}", len(inputs))
        return self.model.tensors[inputs[position]]

    def output(self) -> Tensor:
        """The operator's output, quantized like its input type."""
        return self.quantized(self.model.tensors[self.operator.outputs[0]])

    def value(self, position: int = 0, *, edges: bool = False) -> LayerOutput:
        """The value of an input, which has zeros around it only if ``edges``, else a layer adds them now."""
        tensor = self.tensor(position)
        check(tensor.number in self.values, f"tensor {tensor.number}", "one that is computed before", "another")
        value = self.values[tensor.number]
        check(not value.host, f"tensor {tensor.number}", f"nothing behind {' and '.join(value.host)}, which is left to "
              "the host", self.operator.code)
        self.quantized(tensor)
        if value.layer == "input":
            self._know_input(value, tensor)
        return self.padded(value) if any(value.edges) and not edges else value

    def _know_input(self, value: LayerOutput, tensor: Tensor) -> None:
        """State the network's input as its first reader takes it: as a map, or flat."""
        if "input" not in self.builder.specs:
            shape = value.shape
            flat = self.operator.code == "FULLY_CONNECTED" or len(shape) == 2
            check(flat or len(shape) == 4, "input", "[1, H, W, C] or [1, C]", list(shape))
            self.builder.set_input(scale=scale_of(tensor), zero_point=zero_point_of(tensor),
                                   shape=(math.prod(shape), 1, 1) if flat else (shape[3], *shape[1:3]))

    def quantized(self, tensor: Tensor) -> Tensor:
        place = f"tensor {tensor.number}"
        check(tensor.type in QUANTIZED, place, " or ".join(QUANTIZED), tensor.type)
        check(len(tensor.scales) == 1, place, "one scale", len(tensor.scales))
        low = 0 if tensor.type == "UINT8" else -128
        check(low <= tensor.zero_points[0] < low + 256, place, f"a zero point in {low}..{low + 255}",
              tensor.zero_points[0])
        scale = float(tensor.scales[0])
        check(math.isfinite(scale) and scale > 0, place, "a scale above 0", scale)
        return tensor

    def map(self, value: LayerOutput) -> tuple[int, int, int]:
        """The (C, H, W) of a value that is [1, H, W, C], without the zeros around it."""
        channels, rows, columns = self.builder.specs[value.layer].shape
        whole = 1, rows + sum(value.edges[:2]), columns + sum(value.edges[2:]), channels
        flat = (1, channels) if rows == columns == 1 else ()
        check(value.shape in (whole, flat), "input", f"{list(whole)}, as it was computed", list(value.shape))
        return channels, rows, columns

    def same_type(self, *positions: int) -> Tensor:
        """The output, which has the type of these inputs."""
        output = self.output()
        for position in positions:
            check(self.tensor(position).type == output.type, "output", f"{self.tensor(position).type} as the input",
                  output.type)
        return output

    def same_quantization(self, position: int = 0) -> Tensor:
        """The output, which has the type, scale and zero point of an input."""
        output, source = self.same_type(position), self.tensor(position)
        found, expected = ((scale_of(one), zero_point_of(one)) for one in (output, source))
        check(found == expected, "output", f"the input's scale {expected[0]} and zero point {expected[1]}",
              f"{found[0]} and {found[1]}")
        return output

    def option(self, name: str, names: Sequence[str] | None = None) -> Any:
        """An option, of an enumeration its name."""
        check(name in self.operator.options, name, "this option", "none")
        value = self.operator.options[name]
        if names is None:
            return value
        check(0 <= value < len(names), name, f"one of {', '.join(names)}", value)
        return names[value]

    def clamp(self, output: Tensor, activation: str | None = None) -> tuple[int, int]:
        """The int8 clamp of the fused activation, or of ``activation``."""
        if activation is None:
            options = self.operator.options
            activation = self.option("FusedActivationFunction", _ACTIVATIONS) if options else "NONE"
        check(activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", activation)
        return activation_clamp(activation, scale_of(output), zero_point_of(output))

    def result(self, layer: str, *, shape: Sequence[int] | None = None) -> LayerOutput:
        """The output of a layer that computes the operator; it must be of the sizes that the model states."""
        channels, rows, columns = self.builder.specs[layer].shape
        stated = self.model.tensors[self.operator.outputs[0]].shape
        expected = (1, rows, columns, channels) if shape is None else tuple(shape)
        check(stated == expected, "output", f"{list(expected)}, as the operator computes", list(stated))
        for number in [number for number, name in self.tensors.items() if name == layer]:
            del self.tensors[number]  # The layer has been changed: it gives another tensor now.
        return LayerOutput(layer=layer, shape=stated, alone=True)

    def padded(self, value: LayerOutput, before: int = 0, after: int = 0) -> LayerOutput:
        """A value with its zeros as a layer of its own."""
        place = self.name() if self.operator.code == "PAD" else self.name("_pad")
        layer = self.builder.pad(place, value.layer, edges=value.edges, before=before, after=after)
        return LayerOutput(layer=layer, shape=value.shape, alone=True)


def scale_of(tensor: Tensor) -> float:
    return float(tensor.scales[0])


def zero_point_of(tensor: Tensor) -> int:
    """As an int8 value."""
    return int(tensor.zero_points[0]) - (UNSIGNED if tensor.type == "UINT8" else 0)
