"""An .onnx file as plain records: nodes with their attributes, constants as arrays. Nothing is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from golden.checks import JobError, check

_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, eq=False)
class Node:
    """An operator: its number, ``op`` ("Conv", ...), names of its tensors ("" for none), attributes by name."""

    number: int
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"operator {self.number} {self.op}"


@dataclass(frozen=True, eq=False)
class Model:
    """The graph of a model: ``input`` is a name with its sizes (None where they are not stated), ``output`` a name.

    ``input_type`` is that of its integers, None where it is a float.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, np.ndarray]
    input: str
    input_shape: tuple[int | None, ...]
    input_type: type | None
    output: str


def read_model(path: Path) -> Model:
    """Read an .onnx file. Raises JobError for one that is damaged, or has more than one input or output."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise JobError(f"{path}: expected an .onnx file, got no such file") from None
    except OSError as error:
        raise JobError(f"{path}: expected a readable file, got: {error.strerror}") from None
    try:
        graph = onnx.ModelProto.FromString(content).graph
        return _model(graph)
    except JobError as error:
        raise JobError(f"{path}: {error}") from None
    except (DecodeError, ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError):
        raise JobError(f"{path}: expected an .onnx file, got one that is damaged or something else") from None


def _model(graph: onnx.GraphProto) -> Model:
    check(len(graph.node) >= 1, "graph", "operators", "none")
    constants = {one.name: _array(one) for one in graph.initializer}
    nodes = []
    for number, node in enumerate(graph.node):
        check(node.domain in _DOMAINS, f"operator {number}", "one of ONNX's own", f"{node.domain}.{node.op_type}")
        attributes = {one.name: _attribute(one) for one in node.attribute}
        if node.op_type == "Constant":
            check(isinstance(attributes.get("value"), np.ndarray) and len(node.output) == 1,
                  f"operator {number} Constant", "a tensor", "something else")
            constants[node.output[0]] = attributes["value"]
        else:
            nodes.append(Node(number, node.op_type, tuple(node.input), tuple(node.output), attributes))
    inputs = [one for one in graph.input if one.name not in constants]
    check(len(inputs) == 1, "inputs", "1", len(inputs))
    check(len(graph.output) == 1, "outputs", "1", len(graph.output))
    sizes = inputs[0].type.tensor_type.shape.dim
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)
    kind = {onnx.TensorProto.INT8: np.int8, onnx.TensorProto.UINT8: np.uint8}.get(inputs[0].type.tensor_type.elem_type)
    return Model(tuple(nodes), constants, inputs[0].name, shape, kind, graph.output[0].name)


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    check(tensor.data_location != onnx.TensorProto.EXTERNAL, f"tensor {tensor.name}", "values inside the file",
          "values in another")
    return numpy_helper.to_array(tensor)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """Its value: a number, a string, a tuple of them, or an array."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
