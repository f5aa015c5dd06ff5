"""Small ONNX QDQ models that tests make themselves, and ONNX's own answers to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 19


class ModelBuilder:
    """A QDQ model as it is made: methods take and return names of float tensors, those of ``quantized`` behind DQ."""

    def __init__(self, shape: Sequence[int], *, seed: int = 0, unsigned: bool = False, scale: float = 0.05,
                 zero_point: int = 3):
        self.random = np.random.default_rng(seed)
        self.kind = np.uint8 if unsigned else np.int8
        self.shape = tuple(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.count = 0
        self.last = self.quantized("x", scale, zero_point)

    def new(self) -> str:
        """A name."""
        self.count += 1
        return f"t{self.count}"

    def constant(self, array: np.ndarray) -> str:
        """A constant's name."""
        name = self.new()
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """An operator's output."""
        name = self.new()
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def quantized(self, name: str, scale: float = 0.1, zero_point: int = -4) -> str:
        """A float tensor through QuantizeLinear and DequantizeLinear."""
        shift = 128 if self.kind == np.uint8 else 0
        pair = [self.constant(np.float32(scale)), self.constant(self.kind(zero_point + shift))]
        self.last = self.node("QuantizeLinear", [name, *pair])
        return self.node("DequantizeLinear", [self.last, *pair])

    def weights(self, shape: Sequence[int], *, axis: int | None = 0, zero_point: int = 0, kind: type = np.int8) -> str:
        """Random weights behind DequantizeLinear."""
        limits = np.iinfo(kind)
        values = self.random.integers(limits.min + 1, limits.max + 1, shape).astype(kind)
        self.scales = self.random.uniform(0.002, 0.01, () if axis is None else shape[axis]).astype(np.float32)
        zero_points = np.full(self.scales.shape, zero_point, kind)
        inputs = [self.constant(values), self.constant(self.scales), self.constant(zero_points)]
        return self.node("DequantizeLinear", inputs, **({} if axis is None else {"axis": axis}))

    def bias(self, outputs: int, input_scale: float) -> str:
        """Random int32 biases of the sums' scales, behind DequantizeLinear."""
        scales = np.broadcast_to(self.scales * np.float32(input_scale), outputs).astype(np.float32)
        values = self.random.integers(-2000, 2000, outputs).astype(np.int32)
        inputs = [self.constant(values), self.constant(scales), self.constant(np.zeros(outputs, np.int32))]
        return self.node("DequantizeLinear", inputs, axis=0)

    def finish(self, output: str) -> onnx.ModelProto:
        """The model."""
        ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
                for name, shape in (("x", self.shape), (output, None))]
        graph = helper.make_graph(self.nodes, "graph", *ends, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def answers(model: onnx.ModelProto, inputs: np.ndarray, *names: str) -> list[np.ndarray]:
    """What ONNX computes for inputs [N, ...]: the values [N, ...] of tensors, by default of the output."""
    graph = onnx.ModelProto.FromString(model.SerializeToString())
    known = {one.name for one in graph.graph.output}
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT8, None)
                              for name in names if name not in known)
    session = ReferenceEvaluator(graph)
    rows = [session.run(list(names) or None, {"x": one[None].astype(np.float32)}) for one in inputs]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]
